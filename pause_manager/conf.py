"""The settings of the pause manager, declared once: ``PAUSE_MANAGER = {...}`` in Django's settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.conf import settings as django_settings

from pause_manager.capacity.policy import Policy
from pause_manager.capacity.policy_groups import ungrouped

MACHINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class PauseManagerSettings:
    redis_url: str = "redis://localhost:6379/0"
    """The Redis that carries notifications. Without it changes are found by polling."""
    channel: str = "slackwater:control"
    """Pub/sub channel of control changes. Two systems on one Redis need two names."""
    events_channel: str = "slackwater:events"
    """Pub/sub channel on which pauses and resumes are published for anyone. Two systems on one Redis need two names."""
    poll_seconds: float = 5.0
    """How often a worker process reads the control state while Redis notifies it."""
    poll_seconds_without_redis: float = 1.0
    """How often a worker process reads the control state while Redis is away."""
    redis_timeout_seconds: float = 0.5
    """Longest wait for Redis when publishing a change."""
    idempotency_hours: float = 24.0
    """How long the response to a command with an ``Idempotency-Key`` is stored for a repeat."""
    node: str = ""
    """The name of this machine, the same in all of its containers. Empty: the first host name its workers see."""
    sample_seconds: float = 1.0
    """How often a node is sampled."""
    missed_samples: int = 3
    """Number of sample intervals without a sample after which a node is offline."""
    with_gpus: bool = True
    """Look for GPUs."""
    gpu_deadline_seconds: float = 2.0
    """A driver that has not responded by then is killed, and its GPUs are unknown."""
    node_key_prefix: str = "slackwater:node:"
    """Redis keys of live samples. Two systems on one Redis need two prefixes."""
    machine_key_prefix: str = "slackwater:machine:"
    """Redis keys under which the containers of one machine meet. Two systems on one Redis need two prefixes."""
    save_node_seconds: float = 5.0
    """How often a node is saved to the database while Redis has its samples."""
    history_days: float = 14.0
    """How long samples by the minute, and nodes that are gone, are stored."""
    runtime_dir: str = ""
    """The folder in which the workers of one container find each other; it must belong to the workers' user. Empty:
    a folder of that user in ``$XDG_RUNTIME_DIR``, ``/run/user`` or ``/run``; without any, each worker samples for
    itself."""
    own_root_pid: int = 0
    """The process whose descendants all count as ours, such as a supervisor. 0: only the workers do."""
    control_queue: str = "control"
    """The queue of the control tasks. It is never held."""
    capacity: bool = True
    """Ask for capacity before work is dispatched and started."""
    poll_interval_seconds: float = 10.0
    """How often the pause queue is polled."""
    tally_seconds: float = 5.0
    """How often a process adds its counters to the database, for ``/metrics``."""
    metrics_token: str = ""
    """Bearer token that opens ``/metrics``."""
    metrics_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that may read ``/metrics`` without a token or session, if no proxy is between. With a token: none."""
    statsd_url: str = ""
    """Where counters and times are also sent by UDP, such as ``udp://localhost:8125/slackwater``. Empty: nowhere."""
    worker_beat_seconds: float = 5.0
    """How often a worker reports that it lives and which version of the fleet switch it obeys."""
    permit_seconds: float = 20.0
    """How long a worker starts tasks by the holds it read last, while they cannot be read again."""
    when_blind: str = "stop"
    """What a worker does after ``permit_seconds``: ``stop`` (start nothing, give back what waits) or ``go_on``."""
    missed_worker_beats: int = 6
    """Number of silent beats after which a worker is gone. After two it is lost: what it obeys is unknown."""
    quiesce_seconds: float = 60.0
    """Work that has not stopped this long after a quiesce causes a warning."""
    console_poll_seconds: float = 2.0
    """How often a browser asks for the state of a page when its stream does not arrive; at least 1."""
    open_to: str = ""
    """A user's name: everyone who reaches the fleet's endpoints may use them, as that user. Empty: sign in."""
    database_hint: str = ""
    """What commands add to the message that no connection to the database can be made."""
    every_task: bool = False
    """Make tasks of any class obey holds, those of other packages included, without ``PausableTask``."""
    running_lost_seconds: float = 60.0
    """Seconds without a heartbeat after which a task on another machine counts as lost. On this machine its process
    is checked."""
    answer_grace_seconds: float = 10.0
    """A dispatched message that no worker has confirmed by then is sent again if the broker lacks it. Doubles each
    time."""
    clock_tolerance_seconds: float = 2.0
    """A host whose clock differs more from the database's is named by ``/readyz`` and an alert."""
    ramp_seconds: float = 5.0
    """After a resource that said "too much" answers again, the number that may use it doubles after each such time."""
    longest_throttle_seconds: float = 600.0
    """Longest wait for a resource that says "too much" again and again; each wait is twice the one before."""
    jit: bool = False
    """Let PostgreSQL compile statements on the default database's connections, if its own setting ``jit`` says so. It
    compiles some of ours for seconds, each time they run."""
    policy: dict[str, Any] = field(default_factory=dict)
    """Options of the capacity policy, in groups, below."""
    pipeline_policies: dict[str, Any] = field(default_factory=dict)
    """The same options for single pipelines, by slug. What is missing is taken from ``policy``."""

    def policy_of(self, pipeline: str = "") -> Policy:
        """The policy for work of ``pipeline``, or that of the fleet. Raises ``InvalidPolicy`` or ``TypeError``."""
        # When a node is offline is no matter of taste: one fact for nodes, policy and gate.
        given = {**ungrouped(self.policy), **ungrouped(self.pipeline_policies.get(pipeline, {}))}
        return _policy(_frozen({**given, "offline_after_seconds": self.offline_seconds}))

    @property
    def gone_seconds(self) -> float:
        """After so long a silence a worker is gone."""
        return self.worker_beat_seconds * self.missed_worker_beats

    @property
    def offline_seconds(self) -> float:
        """A node whose last sample is older is offline."""
        return self.missed_samples * self.sample_seconds

    @property
    def unknown_seconds(self) -> float:
        """A node that the database has not heard of for so long is nowhere to go: it hears of some samples only."""
        return self.missed_samples * max(self.sample_seconds, self.save_node_seconds)


@lru_cache
def _policy(given: tuple[tuple[str, Any], ...]) -> Policy:
    return Policy(**dict(given))


def _frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(options.items()))


def settings() -> PauseManagerSettings:
    """The settings in force; system checks have vouched for the names and types. A page asks hundreds of times."""
    global _made
    given = getattr(django_settings, "PAUSE_MANAGER", {})
    made = _made
    if made is None or made[0] != given:
        made = _made = (dict(given), PauseManagerSettings(**given))
    return made[1]


_made: tuple[dict[str, Any], PauseManagerSettings] | None = None
"""The latest, and what they were made of."""
