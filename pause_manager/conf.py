"""The settings of the pause manager, declared once: ``PAUSE_MANAGER = {...}`` in Django's settings."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings as django_settings


@dataclass(frozen=True)
class PauseManagerSettings:
    redis_url: str = "redis://localhost:6379/0"
    """The doorbell. Without it changes are heard by polling."""
    channel: str = "slackwater:control"
    """Pub/sub channel of control changes; two systems on one Redis need two names."""
    poll_seconds: float = 5.0
    """How often a worker process reads the control state while Redis tells it of changes."""
    poll_seconds_without_redis: float = 1.0
    """The same while Redis is away."""
    redis_timeout_seconds: float = 0.5
    """Longest wait for Redis when announcing a change."""
    idempotency_hours: float = 24.0
    """How long the outcome of a command with an ``Idempotency-Key`` is kept for a repeat."""


def settings() -> PauseManagerSettings:
    """The settings in force; system checks have vouched for the names and types."""
    return PauseManagerSettings(**getattr(django_settings, "PAUSE_MANAGER", {}))
