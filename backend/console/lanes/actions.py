"""What an operator does with lanes: freeze, width, policy, and who is before whom."""

from __future__ import annotations

from uuid import UUID

from automation.models import Lane, Site
from automation.runs import freezes, lane_moves, lanes
from backend.console import access
from pause_manager.console.pages import Refused, Request

PLACES = {"front": lane_moves.to_front, "back": lane_moves.to_back}


def freeze(request: Request) -> str:
    """Freeze a lane: none of its work starts, and what runs stops at its next item."""
    name = _lane(request)
    placed = freezes.freeze(name, actor=request.actor, reason=request.required("reason", "a reason"))
    if not placed:
        raise Refused(f"Cannot freeze lane {name}: it is frozen already.")
    return f"Lane {name} is frozen."


def unfreeze(request: Request) -> str:
    """Lift the freeze of a lane."""
    name = _lane(request)
    freezes.unfreeze(name, actor=request.actor, reason=request.reason)
    return f"Lane {name} is not frozen any more."


def change(request: Request) -> str:
    """Give a lane another width, policy, or both."""
    name, width = _lane(request), request.values.get("width", "").strip()
    if width and not (width.isascii() and width.isdecimal() and len(width) < 9):
        raise Refused(f"Cannot change lane {name}: expected a whole number as width, got: {width[:40]}.")
    policy = request.values.get("policy") or None
    lane, started = lanes.change(
        name, policy=policy, width=int(width) if width else None, actor=request.actor, reason=request.reason
    )
    places = "1 run at a time" if lane.width == 1 else f"{lane.width:,} runs at a time"
    kept = "keeps its place" if lane.policy == Lane.Policy.STRICT else "leaves its place to the next"
    told = f" {started:,} got a place by it." if started else ""
    return f"Lane {name}: {places}; a paused run {kept}.{told}"


def move(request: Request) -> str:
    """Move a run that waits: to the front, to the back, or before another."""
    run_id, where = _run(request, "run"), request.required("where", "the place")
    if where in PLACES:
        return PLACES[where](run_id, actor=request.actor, reason=request.reason).sentence
    if where != "before":
        raise Refused("Cannot move the run: expected as where one of front, back, before.")
    return lane_moves.before(run_id, _run(request, "other"), actor=request.actor, reason=request.reason).sentence


def priority(request: Request) -> str:
    """Give a run another priority."""
    given = request.required("priority", "the priority")
    if given not in {str(one) for one in lane_moves.PRIORITIES}:
        raise Refused(f"Cannot change the priority: expected 1 (first) to 5, got: {given[:40]}.")
    run_id = _run(request, "run")
    return lane_moves.set_priority(run_id, int(given), actor=request.actor, reason=request.reason).sentence


def _lane(request: Request) -> str:
    """The lane, if the user may see it: a lane bears the name of its site."""
    name = request.required("lane", "the lane")
    user = request.user
    if Site.objects.visible_to(user).filter(slug=name).exists() or Lane.objects.visible_to(user).filter(name=name):
        return name
    raise Refused(f"Cannot do that: there is no lane {name[:60]}, or you do not have access to it.")


def _run(request: Request, field: str) -> UUID:
    text = request.required(field, "the run")
    try:
        found = access.visible_ids(request.user, [UUID(text)])
    except ValueError:
        found = frozenset()
    if not found:
        raise Refused(f"Cannot move the run: no such run exists ({text[:40]}), or you do not have access to it.")
    return next(iter(found))
