"""The settings of the pause manager, declared once: ``PAUSE_MANAGER = {...}`` in Django's settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.conf import settings as django_settings

from pause_manager.capacity.policy import Policy

MACHINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class PauseManagerSettings:
    redis_url: str = "redis://localhost:6379/0"
    """Server that carries notifications. Without it, changes are found by polling."""
    channel: str = "slackwater:control"
    """Pub/sub channel of control changes; two systems on one Redis need two names."""
    events_channel: str = "slackwater:events"
    """Public pub/sub channel of pauses and resumes; two systems on one Redis need two names."""
    poll_seconds: float = 5.0
    """Seconds between reads of the control state while Redis delivers changes."""
    poll_seconds_without_redis: float = 1.0
    """Seconds between reads of the control state while Redis is unavailable."""
    redis_timeout_seconds: float = 0.5
    """Longest wait for Redis when announcing a change."""
    idempotency_hours: float = 24.0
    """Hours for which the outcome of a command with an ``Idempotency-Key`` is stored for repeats."""
    node: str = ""
    """The name of this machine, the same in all of its containers; empty: the first host name that any of them saw."""
    sample_seconds: float = 1.0
    """Seconds between samples of a node."""
    missed_samples: int = 3
    """Sample intervals without a sample after which a node is offline."""
    with_gpus: bool = True
    """Probe GPUs."""
    gpu_deadline_seconds: float = 2.0
    """Seconds for the driver to respond; after that its process is killed and the GPUs are unknown."""
    node_key_prefix: str = "slackwater:node:"
    """Redis keys of live samples; two systems on one Redis need two prefixes."""
    machine_key_prefix: str = "slackwater:machine:"
    """Redis keys that the containers of one machine share; two systems on one Redis need two prefixes."""
    save_node_seconds: float = 5.0
    """Seconds between writes of a node to the database while Redis has its samples."""
    history_days: float = 14.0
    """Days for which minute samples, and nodes that are gone, are stored."""
    runtime_dir: str = ""
    """Where the workers of one container find each other; empty: a directory of this user's in ``$XDG_RUNTIME_DIR``,
    ``/run/user`` or ``/run``, and without any, none: each worker samples for itself. It must belong to the workers'
    user."""
    own_root_pid: int = 0
    """The process under which everything is ours, such as a supervisor; 0: only the workers are."""
    control_queue: str = "control"
    """Queue that workers never stop consuming."""
    capacity: bool = True
    """Check capacity before work is sent and started."""
    poll_interval_seconds: float = 10.0
    """Seconds between polls of the pause queue."""
    tally_seconds: float = 5.0
    """Seconds between writes of a process's counts for ``/metrics`` to the database."""
    metrics_token: str = ""
    """Bearer token that permits reading ``/metrics``."""
    metrics_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that may read ``/metrics`` without a token or sign-in, if no proxy is in between; with a token, none."""
    statsd_url: str = ""
    """StatsD server that also gets counts and times by UDP: ``udp://localhost:8125/slackwater``; empty: none."""
    worker_beat_seconds: float = 5.0
    """Seconds between heartbeats of a worker, each with the version of the fleet switch that it obeys."""
    permit_seconds: float = 20.0
    """Seconds for which a worker starts tasks by its last read of the holds while they cannot be read again."""
    when_blind: str = "stop"
    """Then a worker either stops (``stop``: starts nothing, returns unstarted tasks) or continues (``go_on``)."""
    missed_worker_beats: int = 6
    """Missed heartbeats after which a worker is gone; after two it counts as lost, as what it obeys is unknown."""
    quiesce_seconds: float = 60.0
    """Seconds after a quiesce when work that is still running causes a warning."""
    open_to: str = ""
    """User name in which anyone who reaches the fleet's endpoints may use them; empty: sign-in is required."""
    database_hint: str = ""
    """Hint that commands add when they cannot connect to the database."""
    every_task: bool = False
    """Make tasks of any class obey holds, also those of other packages, without ``PausableTask``."""
    running_lost_seconds: float = 60.0
    """Seconds without a heartbeat after which a task on another machine counts as lost; here the process is checked."""
    answer_grace_seconds: float = 10.0
    """Seconds after which a re-sent message that has not started is sent again if the broker lacks it; doubles."""
    clock_tolerance_seconds: float = 2.0
    """Seconds of difference from the database's clock beyond which ``/readyz`` and an alert name a host."""
    policy: dict[str, Any] = field(default_factory=dict)
    """Options of ``capacity.Policy``: pause_below, resume_above (shares), dwell times (seconds), …"""
    pipeline_policies: dict[str, Any] = field(default_factory=dict)
    """Options of the policy for single pipelines, by slug; others are as in ``policy``."""

    def policy_of(self, pipeline: str = "") -> Policy:
        """The policy for work of ``pipeline``, or that of the fleet. Raises ``InvalidPolicy`` or ``TypeError``."""
        # Not an option of its own: nodes, policy and gate must agree on when a node is offline.
        given = {**self.policy, **self.pipeline_policies.get(pipeline, {})}
        return _policy(_frozen({**given, "offline_after_seconds": self.offline_seconds}))

    @property
    def gone_seconds(self) -> float:
        """Return the seconds of silence after which a worker is gone."""
        return self.worker_beat_seconds * self.missed_worker_beats

    @property
    def offline_seconds(self) -> float:
        """Return the age of the last sample, in seconds, beyond which a node is offline."""
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
    """The settings in force; system checks verify the names and types."""
    return PauseManagerSettings(**getattr(django_settings, "PAUSE_MANAGER", {}))
