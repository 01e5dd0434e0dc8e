"""What an operator does with pause windows: create, change, skip, delete."""

from __future__ import annotations

from typing import Any

from pause_manager import times
from pause_manager.console import rules
from pause_manager.console.pages import Refused, Request
from pause_manager.holds import windows


def create(request: Request) -> str:
    """Create a window from the fields of the form."""
    given = _fields(request) | {"name": request.required("name", "the name")}
    window = windows.create(given, actor=request.actor)
    return f"Pause window {window.name}: {windows.words(window)}."


def change(request: Request) -> str:
    """Change a window; its hold follows at once."""
    window = windows.change(_name(request), _fields(request), actor=request.actor)
    return f"Pause window {window.name}: {windows.words(window)}."


def skip(request: Request) -> str:
    """End the stretch that is open, or skip the next one."""
    name = _name(request)
    begins, ends = windows.skip(name, actor=request.actor, reason=request.reason)
    return f"Pause window {name} is skipped from {times.written(begins)} to {times.written(ends)}."


def delete(request: Request) -> str:
    """Delete a window; its hold is released."""
    name = _name(request)
    windows.delete(name, actor=request.actor, reason=request.reason)
    return f"Pause window {name} is deleted."


def _name(request: Request) -> str:
    name = request.required("window", "the pause window")
    if "\x00" in name:
        raise Refused("Cannot do that: there is no such pause window.")
    return name


def _fields(request: Request) -> dict[str, Any]:
    given = request.values
    return rules.rule_of(given) | {
        "scope": given.get("scope", "").strip(),
        "mode": given.get("mode", "drain"),
        "duration_minutes": rules.whole("duration_minutes", given.get("duration_minutes", "").strip()),
        "reason": request.required("reason", "the reason"),
        "is_enabled": given.get("is_enabled") == "on",
    }
