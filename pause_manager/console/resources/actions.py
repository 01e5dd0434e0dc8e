"""What an operator does on the page of resources."""

from __future__ import annotations

from pause_manager import overrides, resources, scopes
from pause_manager.console.fleet.actions import minutes
from pause_manager.console.pages import Refused, Request
from pause_manager.fleet import bulk_holds
from pause_manager.models import Hold
from pause_manager.resources import report
from pause_manager.resources.writer import MOST

LIMITS = {"max_at_once": "at once", "max_per_minute": "starts per minute"}


def _name(request: Request) -> str:
    """Return the name of the resource that is meant. Raises ``Refused``, or the report's own errors."""
    return report.of(request.required("resource", "the resource")).name


def hold(request: Request) -> str:
    """Hold a resource: nothing that uses it starts."""
    name, mode = _name(request), request.values.get("mode", "drain")
    if mode not in Hold.Mode.values:
        raise Refused(f"Cannot hold {name}: expected the mode drain or quiesce, got: {mode[:40]}.")
    bulk_holds.place(
        [scopes.resource(name)],
        mode=mode,
        actor=request.actor,
        reason=request.required("reason", "a reason"),
        expires_in=minutes(request, "minutes", "for how long"),
    )
    return f"Held: {name}."


def release(request: Request) -> str:
    """Release an operator's hold on a resource."""
    name = _name(request)
    released, _ = bulk_holds.release([scopes.resource(name)], actor=request.actor, reason=request.reason)
    if not released:
        raise Refused(f"Cannot release {name}: no operator holds it.")
    return f"Released: {name}."


def limit(request: Request) -> str:
    """Set the limits of a resource, permanently or for some minutes; an empty one is no limit."""
    name = _name(request)
    wanted = {field: _number(request, field, label) for field, label in LIMITS.items()}
    for_how_long = minutes(request, "minutes", "for how long")
    told = ", ".join(f"{'no limit' if value is None else f'{value:,}'} {LIMITS[one]}" for one, value in wanted.items())
    if for_how_long is None:
        resources.set_limits(name, wanted, actor=request.actor, reason=request.reason)
        return f"Limits of {name}: {told}."
    current = report.of(name)
    changed = {one: value for one, value in wanted.items() if getattr(current, one) != value}
    if not changed:
        raise Refused(f"Cannot limit {name} for a while: these are its limits already.")
    for one, value in changed.items():
        overrides.start(
            f"resource_{one}",
            name,
            "none" if value is None else str(value),
            expires_in=for_how_long,
            actor=request.actor,
            reason=request.reason,
        )
    return f"Limits of {name} for a while: {told}."


def _number(request: Request, field: str, label: str) -> int | None:
    text = request.values.get(field, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and 1 <= int(text) <= MOST):
        raise Refused(f"Cannot set the limit {label}: expected a whole number from 1 to {MOST:,}, got: {text[:40]}.")
    return int(text)


def ask_again(request: Request) -> str:
    """Have a resource that said "too much" asked again now."""
    name = _name(request)
    if not resources.ask_again(name, actor=request.actor, reason=request.required("reason", "a reason")):
        raise Refused(f"Cannot have {name} asked again: it has not said “too much”, or is asked already.")
    return f"{name} is asked again now, by one loop or task."


def end_override(request: Request) -> str:
    """End an override of a limit before its time."""
    text = request.required("override", "the override")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Refused(f"Cannot end override {text[:40]}: expected its number.")
    ended = overrides.end(int(text), actor=request.actor, reason=request.reason)
    return f"Ended: {ended.outcome or ended}."
