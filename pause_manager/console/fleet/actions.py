"""What an operator does on the fleet page."""

from __future__ import annotations

from pause_manager import fleet
from pause_manager.console.pages import Request


def pause(request: Request) -> str:
    """Pause the fleet: ``mode`` is drain or quiesce."""
    mode = request.values.get("mode", "drain")
    fleet.pause(mode=mode, reason=request.required("reason", "a reason"), actor=request.actor)
    return f"Fleet paused ({mode})."


def resume(request: Request) -> str:
    """Resume the fleet; ``force`` although something is still running."""
    is_forced = request.values.get("force") == "1"
    fleet.resume(reason=request.required("reason", "a reason"), actor=request.actor, force=is_forced)
    return "Fleet resumed."
