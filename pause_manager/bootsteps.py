"""What every Celery worker of an app with ``pause_manager`` in INSTALLED_APPS does besides its tasks."""

from __future__ import annotations

import gc
import logging
from typing import Any

from celery import bootsteps, signals
from celery.utils.imports import symbol_by_name

from pause_manager import conf
from pause_manager.database.thread import database_thread
from pause_manager.database.watchdog import watchdog
from pause_manager.observability import log_context
from pause_manager.probes.sampler_election import SamplerElection
from pause_manager.slots import gpus, recycling, shared_state
from pause_manager.worker import reliable_ack, revocations
from pause_manager.worker.consumption import consumption
from pause_manager.worker.decisions import decisions
from pause_manager.worker.delivery_step import ParkedDeliveryStep
from pause_manager.worker.event_loop import event_loop
from pause_manager.worker.node_monitor import NodeMonitor
from pause_manager.worker.request import combined
from pause_manager.worker.sampling import Sampling, amend, on_sample
from pause_manager.worker.supervisor import supervisor

logger = logging.getLogger("pause_manager.bootsteps")

LET_GO_SECONDS = 5.0

__all__ = ["WorkerSupervision", "consumption", "on_sample"]


class WorkerSupervision(bootsteps.StartStopStep):
    """Obeys holds and samples the node while the worker runs; starts before the worker takes its first message."""

    # After the pool: its processes are forked before our threads are there.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.sampling: Sampling | None = None
        self.is_supervising = False

    def start(self, worker: Any) -> None:
        consumption.attach(worker)
        event_loop.attach(worker)
        decisions.attach(worker)
        watchdog.start()
        database_thread.start()
        supervisor.start(worker)
        self.is_supervising = True
        recycling.note_pool(type(worker.pool))
        on_sample.append(gpus.record_sample)
        if conf.settings().capacity:
            watch = NodeMonitor()
            on_sample.append(watch)
            amend.append(watch.with_idle)
        self.sampling = Sampling()
        self.sampling.start()

    def stop(self, worker: Any) -> None:
        """Nothing yet: a node is seen until the last of its tasks has ended, see ``_end``."""

    def terminate(self, worker: Any) -> None:
        self.end(has_finished=False)

    def end(self, *, has_finished: bool = True) -> None:
        """Let go of what is in hand, and stop sampling: another worker of the machine takes over.

        ``has_finished``: the pool has ended what it had begun, instead of being killed.
        """
        if self.is_supervising:
            self.is_supervising = False
            decisions.returns.pool_has_ended(has_finished=has_finished)
            decisions.returns.let_go(LET_GO_SECONDS)
            database_thread.stop()
            supervisor.stop()
            watchdog.stop()
        if self.sampling is not None:
            self.sampling.stop()
            self.sampling = None


@signals.worker_init.connect
def _install(sender: Any = None, **_: Any) -> None:
    SamplerElection(conf.settings().runtime_dir)  # before the pool forks: its processes are of this worker's container
    revocations.listen()
    log_context.share_version()
    shared_state.make()
    sender.app.steps["worker"].add(WorkerSupervision)
    sender.app.steps["consumer"].add(ParkedDeliveryStep)
    for task in sender.app.tasks.values():
        _install_request(task)
    reliable_ack.install(sender.app)


def _install_request(task: Any) -> None:
    """Every task is in hand, whatever class of request it has, and pausable tasks ask."""
    own = symbol_by_name(task.Request)
    try:
        task.Request = combined(own)
    except TypeError as error:
        logger.warning("Holds do not see %s, and no drain waits for it: its Request, %s: %s.", task.name, own, error)


@signals.celeryd_after_setup.connect
def _share_memory(**_: Any) -> None:
    """What is loaded by now stays: the pool's processes share it with us, as long as nobody writes to it.

    Before the pool forks. Collecting in a child would write into every object, and so copy every page of memory.
    """
    gc.collect()
    gc.freeze()


@signals.worker_shutdown.connect
def _end(sender: Any = None, **_: Any) -> None:
    for step in getattr(sender, "steps", ()):
        if isinstance(step, WorkerSupervision):
            step.end()
