"""What an operator does on the fleet page."""

from __future__ import annotations

from datetime import timedelta

from pause_manager import fleet, times
from pause_manager.console.pages import Done, Refused, Request
from pause_manager.fleet import bulk_holds
from pause_manager.holds import windows
from pause_manager.models import Hold

LONGEST_MINUTES = 366 * 24 * 60


def minutes(request: Request, name: str, label: str) -> timedelta | None:
    """Return the length of time that a field gives in minutes; ``None`` if it is empty. Raises ``Refused``."""
    text = request.values.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= LONGEST_MINUTES):
        raise Refused(
            f"Cannot do that: {label}: expected whole minutes from 1 to {LONGEST_MINUTES:,}, got: {text[:40]}."
        )
    return timedelta(minutes=int(text))


def pause(request: Request) -> str:
    """Pause the fleet: ``mode`` is drain or quiesce; a drain becomes a quiesce after ``deadline`` minutes."""
    mode = request.values.get("mode", "drain")
    deadline = minutes(request, "deadline", "the deadline")
    fleet.pause(mode=mode, reason=request.required("reason", "a reason"), actor=request.actor, deadline=deadline)
    return f"Fleet paused ({mode})."


def resume(request: Request) -> str:
    """Resume the fleet; ``force`` although something is still running."""
    is_forced = request.values.get("force") == "1"
    fleet.resume(reason=request.required("reason", "a reason"), actor=request.actor, force=is_forced)
    return "Fleet resumed."


def hold(request: Request) -> Done:
    """Hold a machine, queue, pipeline, lane or resource; a hold that is there is changed."""
    scope = request.values.get("scope", "").strip()
    if not scope:
        scope = f"{request.values.get('subject', 'node')}:{request.required('name', 'the name')}"
    mode = request.values.get("mode", "drain")
    if mode not in Hold.Mode.values:
        raise Refused(f"Cannot hold {scope[:100]}: expected the mode drain or quiesce, got: {mode[:40]}.")
    if not scope.isprintable() or any(character.isspace() for character in scope):
        raise Refused(f"Cannot hold {scope[:100]!r}: expected a name without spaces.")
    for_how_long = minutes(request, "minutes", "for how long")
    outcome = bulk_holds.place([scope], mode=mode, actor=request.actor, reason=request.reason, expires_in=for_how_long)
    changed = {
        "Held": outcome.placed,
        "Changed the hold on": outcome.altered,
        "Held just so already": outcome.unchanged,
    }
    told = [f"{verb}: {', '.join(names)}." for verb, names in changed.items() if names]
    return Done(" ".join(told), problems=tuple(bulk_holds.unknown([scope])))


def release(request: Request) -> str:
    """Release an operator's hold."""
    scope = request.required("scope", "what to release")
    released, _ = bulk_holds.release([scope], actor=request.actor, reason=request.reason)
    if not released:
        raise Refused(f"Cannot release {scope[:100]}: no operator holds it.")
    return f"Released: {scope}."


def skip_window(request: Request) -> str:
    """End the stretch of a pause window that is open, or skip the next one."""
    name = request.required("scope", "the pause window")
    _, until = windows.skip(name, actor=request.actor, reason=request.reason)
    return f"Skipped pause window {name} until {times.written(until)}."
