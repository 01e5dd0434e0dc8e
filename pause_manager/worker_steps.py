"""What every Celery worker of an app with ``pause_manager`` in INSTALLED_APPS does besides its tasks."""

from __future__ import annotations

from typing import Any

from celery import bootsteps, signals

from pause_manager import acknowledging, conf, log_context
from pause_manager.consumption import consumption
from pause_manager.node_watch import NodeWatch
from pause_manager.obedience import Obedience
from pause_manager.sampling import Sampling, on_sample
from pause_manager.taking_up import TakingUp

__all__ = ["NodeSampling", "consumption", "on_sample"]


class NodeSampling(bootsteps.StartStopStep):
    """Obeys holds and samples the node while the worker runs; starts before the worker takes its first message."""

    # After the pool: its processes are forked before our threads are there.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.sampling: Sampling | None = None
        self.obedience: Obedience | None = None

    def start(self, worker: Any) -> None:
        consumption.attach(worker)
        self.obedience = Obedience(worker)
        self.obedience.start()
        if conf.settings().capacity:
            on_sample.append(NodeWatch())
        self.sampling = Sampling()
        self.sampling.start()

    def stop(self, worker: Any) -> None:
        """Nothing yet: a node is seen until the last of its tasks has ended, see ``_end``."""

    def terminate(self, worker: Any) -> None:
        self.end()

    def end(self) -> None:
        """Stop sampling; another worker of the machine takes over."""
        if self.obedience is not None:
            self.obedience.stop()
            self.obedience = None
        if self.sampling is not None:
            self.sampling.stop()
            self.sampling = None


@signals.worker_init.connect
def _install(sender: Any = None, **_: Any) -> None:
    log_context.share_version()
    sender.app.steps["worker"].add(NodeSampling)
    sender.app.steps["consumer"].add(TakingUp)
    acknowledging.install(sender.app)


@signals.worker_shutdown.connect
def _end(sender: Any = None, **_: Any) -> None:
    for step in getattr(sender, "steps", ()):
        if isinstance(step, NodeSampling):
            step.end()
