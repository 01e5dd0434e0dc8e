"""A hold as the reason that people and machines are given: one sentence for every entry point."""

from __future__ import annotations

from pause_manager import times
from pause_manager.models import Hold
from pause_manager.reasons import Reason, ReasonCode

ROOM = "there is room, or an operator starts it anyway (resume_run --force)"
"""What lifts a hold for want of capacity on a run."""

_LIFTED = {
    Hold.Kind.OPERATOR: "an operator resumes it",
    Hold.Kind.FREEZE: "an operator lifts the freeze",
    Hold.Kind.BUDGET: "the budget is topped up and an operator resumes it",
    Hold.Kind.NEEDS_INPUT: "all its questions are answered (answer_run)",
    Hold.Kind.CAPACITY: ROOM,
    Hold.Kind.WINDOW: "an operator skips its pause window (manage.py window skip)",
}


def code_of(hold: Hold) -> ReasonCode:
    """The code of the reason: what is held for the fleet and nodes, else the kind of the hold."""
    subject = hold.scope.partition(":")[0]
    return _BY_SUBJECT.get(subject) or ReasonCode(hold.kind)


_BY_SUBJECT = {"fleet": ReasonCode.FLEET, "node": ReasonCode.NODE}


def reason_of(hold: Hold) -> Reason:
    """Return ``hold`` as a reason of a run, or of a task, that it covers."""
    kind = Hold.Kind(hold.kind)
    sentence, lifted = _throttled(hold) if kind == Hold.Kind.THROTTLED else (_sentence(hold), _LIFTED[kind])
    if kind != Hold.Kind.THROTTLED and hold.expires_at is not None and hold.on_expiry == Hold.OnExpiry.RESUME:
        lifted += f", or by itself at {times.written(hold.expires_at)}"
    figures = {
        "scope": hold.scope,
        "kind": hold.kind,
        "mode": hold.mode,
        "expires_at": hold.expires_at.isoformat() if hold.expires_at else None,
    }
    return Reason(code_of(hold), sentence, hold.created_at, hold.actor, lifted, figures=figures)


def _throttled(hold: Hold) -> tuple[str, str]:
    subject, _, name = hold.scope.partition(":")
    until = f" It is asked again at {times.written(hold.expires_at)}." if hold.expires_at else ""
    told = hold.actor.replace(":", " ", 1)
    sentence = f"The {subject} {name} said “too much” at {times.written(hold.created_at)} to {told}.{until}"
    return sentence, "the wait ends: then one loop or task asks it again, and the others follow"


def _sentence(hold: Hold) -> str:
    subject, _, name = hold.scope.partition(":")
    what = {"run": "This run", "fleet": "The fleet"}.get(subject, f"The {subject} {name}")
    if subject == "node":
        what = f"No node may take new work: {name}"
    why = f": {hold.reason.removesuffix('.')}" if hold.reason else ", no reason given"
    if hold.kind == Hold.Kind.NEEDS_INPUT:
        return f"{what} waits for an answer{why}."
    if hold.kind == Hold.Kind.WINDOW:
        until = f" until {times.written(hold.expires_at)}" if hold.expires_at else ""
        return f"{what} is paused by the pause window {hold.actor.partition(':')[2]}{until}{why}."
    verb = "was frozen" if hold.kind == Hold.Kind.FREEZE else "was paused"
    return f"{what} {verb} by {_in_words(hold.actor)}{why}."


def _in_words(actor: str) -> str:
    """``actor`` in a sentence: a user by name, a run by the beginning of its id."""
    kind, _, name = actor.partition(":")
    return f"run {name[:8]}" if kind == "run" else actor.removeprefix("user:")
