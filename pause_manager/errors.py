"""Refusals of the pause manager, each with a code for machines and a sentence for people."""

from __future__ import annotations


class PauseManagerError(Exception):
    """Base of the pause manager's own errors."""

    code = "pause_manager_error"


class InvalidHold(PauseManagerError):
    """A hold was asked for that breaks a rule; the sentence names it."""

    code = "hold_invalid"


class InvalidResource(PauseManagerError):
    """A resource has no such name or cannot be limited so; the sentence names what is allowed."""

    code = "resource_invalid"


class InvalidWindow(PauseManagerError):
    """A pause window breaks a rule; the sentence names the field and what is allowed. Nothing was changed."""

    code = "window_invalid"


class WindowRefused(PauseManagerError):
    """A verb does not apply to the pause window as it is now; nothing was changed."""

    code = "window_refused"


class UnknownResource(PauseManagerError):
    """No work uses a resource of this name, and it has neither a limit nor a hold."""

    code = "not_found"


class IdempotencyConflict(PauseManagerError):
    """The idempotency key was used before with another request."""

    code = "idempotency_conflict"


class InvalidFleetCommand(PauseManagerError):
    """The fleet switch was asked for something that makes no sense whatever its state; the sentence names it."""

    code = "worker_pause_invalid_request"


class FleetRefused(PauseManagerError):
    """The fleet switch does not do that in its state; nothing was changed, and the refusal is in the audit trail."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
