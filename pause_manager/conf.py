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
    """The doorbell. Without it changes are heard by polling."""
    channel: str = "slackwater:control"
    """Pub/sub channel of control changes; two systems on one Redis need two names."""
    events_channel: str = "slackwater:events"
    """Pub/sub channel on which pauses and resumes are announced, for anybody; two systems on one Redis need two."""
    poll_seconds: float = 5.0
    """How often a worker process reads the control state while Redis tells it of changes."""
    poll_seconds_without_redis: float = 1.0
    """The same while Redis is away."""
    redis_timeout_seconds: float = 0.5
    """Longest wait for Redis when announcing a change."""
    idempotency_hours: float = 24.0
    """How long the outcome of a command with an ``Idempotency-Key`` is kept for a repeat."""
    node: str = ""
    """The name of this machine, the same in all of its containers; empty: the first host name that any of them saw."""
    sample_seconds: float = 1.0
    """How often a node is sampled."""
    missed_samples: int = 3
    """A node that was silent for so many sample intervals is offline."""
    with_gpus: bool = True
    """Whether GPUs are looked for."""
    gpu_deadline_seconds: float = 2.0
    """A driver that has not answered by then is killed and its GPUs are unknown."""
    node_key_prefix: str = "slackwater:node:"
    """Redis keys of live samples; two systems on one Redis need two prefixes."""
    machine_key_prefix: str = "slackwater:machine:"
    """Redis keys under which the containers of one machine meet; two systems on one Redis need two prefixes."""
    save_node_seconds: float = 5.0
    """How often a node is kept in the database while Redis has it."""
    history_days: float = 14.0
    """How long samples by the minute, and nodes that are gone, are kept."""
    runtime_dir: str = ""
    """Where the workers of one container find each other; empty: a directory of this user's in ``$XDG_RUNTIME_DIR``,
    ``/run/user`` or ``/run``, and without any, none: each worker samples for itself. It must belong to the workers'
    user."""
    own_root_pid: int = 0
    """The process under which everything is ours, such as a supervisor; 0: only the workers are."""
    control_queue: str = "control"
    """The queue that workers never stop consuming."""
    capacity: bool = True
    """Whether room is asked for before work is sent and started."""
    poll_interval_seconds: float = 10.0
    """How often the pause queue is looked through."""
    tally_seconds: float = 5.0
    """How often a process adds what it counted for ``/metrics`` to the database."""
    metrics_token: str = ""
    """Whoever sends it as a bearer token may read ``/metrics``."""
    metrics_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Who may read ``/metrics`` without a token or a sign-in, if they come without a proxy. With a token: nobody."""
    statsd_url: str = ""
    """Where counts and times are sent by UDP as well, such as ``udp://localhost:8125/slackwater``; empty: nowhere."""
    worker_beat_seconds: float = 5.0
    """How often a worker says that it lives and which version of the fleet switch it obeys."""
    permit_seconds: float = 20.0
    """For so long a worker starts tasks by what it read last of the holds, while they cannot be read anew."""
    when_blind: str = "stop"
    """What a worker does after that: ``stop`` (start nothing and give back what it has not started) or ``go_on``."""
    missed_worker_beats: int = 6
    """A worker that was silent for so many beats is gone; after two it counts as lost: nobody knows what it obeys."""
    quiesce_seconds: float = 60.0
    """Work that is not given back so long after a quiesce is warned of."""
    open_to: str = ""
    """With a user's name, whoever reaches the fleet's endpoints may use them, in that name. Empty: sign in."""
    database_hint: str = ""
    """What commands add where no connection to the database can be had: what to do about it."""
    every_task: bool = False
    """Whether workers make tasks of any class obey holds, those of other packages too, without ``PausableTask``."""
    running_lost_seconds: float = 60.0
    """A task of another machine that was not heard of for so long is lost; of this one, the process is looked at."""
    answer_grace_seconds: float = 10.0
    """A message sent on and not started on by then is sent again if the broker has too few; doubles each time."""
    clock_tolerance_seconds: float = 2.0
    """A host whose clock differs from the database's by more is named by ``/readyz`` and an alert."""
    policy: dict[str, Any] = field(default_factory=dict)
    """Options of ``capacity.Policy``: pause_below, resume_above (shares), dwell times (seconds), …"""
    pipeline_policies: dict[str, Any] = field(default_factory=dict)
    """The same for single pipelines, by slug; what is not named is as in ``policy``."""

    def policy_of(self, pipeline: str = "") -> Policy:
        """The policy for work of ``pipeline``, or that of the fleet. Raises ``InvalidPolicy`` or ``TypeError``."""
        # When a node is offline is no matter of taste: one fact for nodes, policy and gate.
        given = {**self.policy, **self.pipeline_policies.get(pipeline, {})}
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
    """The settings in force; system checks have vouched for the names and types."""
    return PauseManagerSettings(**getattr(django_settings, "PAUSE_MANAGER", {}))
