"""Refusals of the pause manager, each with a code for machines and a sentence for people."""

from __future__ import annotations


class PauseManagerError(Exception):
    """Base of the pause manager's own errors."""

    code = "pause_manager_error"


class InvalidHold(PauseManagerError):
    """A hold was asked for that breaks a rule; the sentence names it."""

    code = "hold_invalid"


class IdempotencyConflict(PauseManagerError):
    """The idempotency key was used before with another request."""

    code = "idempotency_conflict"
