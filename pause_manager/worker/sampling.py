"""The sampling of one worker: a thread that ticks each second, and hands what the database is to know to another.

Of several workers in one container one samples; of several containers of one machine one speaks, which makes one
sample of all their reports. The others hear it. When one of them dies, the next tick of another takes over. Redis,
database and driver may be away in any order, or hang: the thread continues.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import redis

from pause_manager import conf, nodes
from pause_manager.capacity.snapshot import NodeView
from pause_manager.database.thread import database_thread
from pause_manager.nodes.machines import containers, identity
from pause_manager.nodes.rollup import MinuteRollup
from pause_manager.probes import processes
from pause_manager.probes.container_report import Report
from pause_manager.probes.merge import with_container
from pause_manager.probes.sample import Sample
from pause_manager.probes.sampler import Sampler
from pause_manager.probes.sampler_election import SamplerElection, UnsafeDirectory
from pause_manager.worker.consumption import consumption

logger = logging.getLogger("pause_manager.worker.sampling")

PRIMING_SECONDS = 0.25

on_sample: list[Callable[[NodeView, bool], None]] = []
"""Called in every worker of a node with a sample and whether this worker speaks for it, in its database thread.

While that is busy only the latest sample waits for it. Failures are logged.
"""


amend: list[Callable[[NodeView], NodeView]] = []
"""What is added to a sample, before it is told, by those who know more of the node than the probes read."""


class Sampling:
    """Start it once in a worker's main process; ``stop`` ends it within a second or so."""

    def __init__(self) -> None:
        self._settings = conf.settings()
        self._lodging = SamplerElection(self._settings.runtime_dir, self._settings.own_root_pid)
        self._recorder = NodeRecorder(self._settings.save_node_seconds)
        self._has_started_database = False
        self._sampler: Sampler | None = None
        self._meeting = containers.Meeting()
        self._speaks = False
        """Whether this worker samples, and its container speaks for the machine."""
        self._stop = threading.Event()
        self._last_complaint = ""
        self._last_heard = 0.0
        self._thread = threading.Thread(target=self._run, name="slackwater-sampling", daemon=True)

    def start(self) -> None:
        if not database_thread.is_running:
            self._has_started_database = True
            database_thread.start()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2)
        if self._has_started_database:
            database_thread.stop()

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            began = time.monotonic()
            try:
                wait = self._tick()
                self._last_complaint = ""
            except Exception as error:
                wait = self._settings.sample_seconds
                if str(error) != self._last_complaint:
                    if isinstance(error, UnsafeDirectory):
                        logger.error("The node cannot be sampled: %s", error)
                    else:
                        logger.exception("The sampling failed and continues.")
                    self._last_complaint = str(error)
            wait = max(0.0, wait - (time.monotonic() - began))
        if self._sampler is not None:
            self._sampler.close()
            with contextlib.suppress(redis.RedisError):
                containers.leave(processes.container())
        self._lodging.leave()

    def _tick(self) -> float:
        """One round; answers the seconds until the next, counted from this one's start."""
        self._lodging.register()
        consumption.enforce()
        sample = self._take() if self._lodging.try_to_be_sampler() else self._hear()
        if sample is None:
            return PRIMING_SECONDS if self._sampler is not None else self._settings.sample_seconds
        for number, react in enumerate(on_sample):
            job = partial(react, sample.view, self._speaks)
            database_thread.submit(f"the reaction {number} to a sample", job)
        return self._settings.sample_seconds

    def _take(self) -> Sample | None:
        settings = self._settings
        if self._sampler is None:
            self._sampler = Sampler(gpu_deadline_seconds=settings.gpu_deadline_seconds, with_gpus=settings.with_gpus)
        report = self._sampler.read(self._lodging.roots())
        if report is None:
            return None
        if not (node := identity.known_name()):
            # A node is a machine, and only the database knows what this one is called.
            database_thread.submit("asking what this machine is called", _ask_name)
        answer = self._meet(report, node)
        reports = self._meeting.heard(answer, report)
        self._speaks = answer.speaks and bool(node)
        if node and not self._speaks and answer.sample is not None:
            return self._retold(answer.sample, report)
        offset = self._recorder.clock_offset
        sample = self._sampler.sample(node or processes.host_name(), reports, clock_offset=offset)
        if self._speaks:
            for more in amend:
                sample = replace(sample, view=more(sample.view))
            is_in_redis = nodes.announce(sample)
            self._recorder.record(sample, is_urgent=not is_in_redis)
        self._lodging.tell(sample)
        return sample

    def _meet(self, report: Report, node: str) -> containers.Answer:
        try:
            return containers.meet(report, node)
        except redis.RedisError:
            database_thread.submit(
                "meeting the other containers",
                lambda: self._meeting.note(containers.meet_in_the_database(report, node)),
            )
            return self._meeting.noted()

    def _retold(self, sample: Sample, report: Report) -> Sample | None:
        """What the container that speaks has told, for the workers of this one, each once."""
        if sample.view.sampled_at == self._last_heard:
            return None
        self._last_heard = sample.view.sampled_at
        sample = with_container(sample, report)
        self._lodging.tell(sample)
        return sample

    def _hear(self) -> Sample | None:
        self._speaks = False
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
        sample = self._lodging.hear(within_seconds=self._settings.offline_seconds)
        if sample is None or sample.view.sampled_at == self._last_heard:
            return None
        self._last_heard = sample.view.sampled_at
        return sample


def _ask_name() -> None:
    with contextlib.suppress(identity.NameTaken):  # the supervisor reports it
        identity.name()


class NodeRecorder:
    """Has nodes and minutes written to the database: a database that hangs delays no sample."""

    def __init__(self, every_seconds: float) -> None:
        self.clock_offset = 0.0
        """Seconds to add to this machine's clock to have the database's."""
        self._every = every_seconds
        self._due = 0.0
        self._minute: MinuteRollup | None = None
        self._full: list[MinuteRollup] = []
        self._latest: Sample | None = None
        self._lock = threading.Lock()

    def record(self, sample: Sample, *, is_urgent: bool) -> None:
        """Count ``sample`` in, and have it saved if it is time or ``is_urgent``. Never waits."""
        with self._lock:
            if self._minute is not None and not self._minute.holds(sample):
                self._full = [*self._full[-59:], self._minute]
                self._minute = None
            self._minute = self._minute or MinuteRollup.of(sample)
            self._minute.add(sample)
            self._latest = sample
            is_due = is_urgent or bool(self._full) or time.monotonic() >= self._due
        if is_due:
            database_thread.submit("keeping the node", self._save)

    def _save(self) -> None:
        self._due = time.monotonic() + self._every
        with self._lock:
            latest, full = self._latest, list(self._full)
        if latest is None:
            return
        before = time.time()
        kept = nodes.save_sample(latest)
        self.clock_offset = kept.now - (before + time.time()) / 2
        if kept.name != latest.view.name:
            identity.know(kept.name)
            return
        for minute in full:
            nodes.save_minute(minute, latest.view.name)
            with self._lock:
                self._full.remove(minute)
