"""Nodes as their samples tell of them (the border to the hardware), and the messages that wait in the broker."""

from __future__ import annotations

from dataclasses import dataclass
from queue import Empty
from typing import Any

from celery import current_app

from automation import tasks
from automation.dispatch.admission import GO_ON
from automation.pipeline import Pipeline, register
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import GpuView, NodeView
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import registry
from pause_manager.probes.processes import host_name
from pause_manager.probes.sample import Sample
from tests.support.pipelines import Echo

HERE = host_name()


class NeedsGpu(Echo):
    slug = "needs-gpu"
    title = "Needs a GPU"
    needs = Needs(cpu=0.001, gpu_memory_mib=14_000, gpus=1)
    slice_size = 1


@register
class OnGpu(Pipeline):
    slug = "on-gpu"
    title = "On a GPU"
    stages = (NeedsGpu,)


def gpu(index: int = 0, total: int = 24_000, free: int | None = 24_000, problem: str = "") -> GpuView:
    return GpuView(index=index, total_mib=total, free_mib=free, problem=problem, uuid=f"GPU-{index}")


def node(
    name: str = HERE,
    *,
    cores: float = 8,
    foreign: float = 0,
    steady: float | None = None,
    free_memory: int = 32_000,
    gpus: tuple[GpuView, ...] = (),
) -> NodeView:
    """A node is what its latest sample says: publish one, as its worker would."""
    view = NodeView(
        name=name,
        sampled_at=database_seconds(),
        cores=cores,
        foreign_cores=foreign,
        steady_foreign_cores=steady,
        memory_mib=32_000,
        free_memory_mib=free_memory,
        gpus=gpus,
    )
    sample = Sample(view)
    registry.save_sample(sample, boot_id=f"of {view.name}")
    assert registry.announce(sample)
    return view


def full(name: str = HERE) -> NodeView:
    """Strangers use all of it."""
    return node(name, foreign=8)


def vanish(name: str = HERE) -> None:
    """The node falls silent and its last sample is old."""
    from pause_manager.models import WorkerNode

    registry.client().delete(registry._key(name))
    WorkerNode.objects.filter(name=name).update(last_seen_at="2020-01-01T00:00:00Z")


@dataclass(frozen=True)
class Message:
    id: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]


def messages(queue: str = "control") -> list[Message]:
    """Take every message that waits in the broker's ``queue``, oldest first."""
    found: list[Message] = []
    with current_app.connection_for_read() as broker:
        waiting = broker.SimpleQueue(queue)
        while True:
            try:
                message = waiting.get_nowait()
            except Empty:
                return found
            args, kwargs, _ = message.payload
            found.append(Message(str(message.headers["id"]), str(message.headers["task"]), args, kwargs))
            message.ack()


def deliver() -> list[Message]:
    """Do what a control worker does with the messages that parked runs are sent on by."""
    sent = messages()
    for message in sent:
        if message.task == GO_ON:
            tasks.go_on(*message.args)
    return sent
