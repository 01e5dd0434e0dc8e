"""What a person does on the overview."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.urls import reverse

from automation.models import AutomationRun, Lane, Site
from automation.runs import creation, freezes, lifecycle
from backend.console import access
from pause_manager.console.access import refusing
from pause_manager.console.pages import Done, Refused, Request
from pause_manager.fleet import bulk_holds
from pause_manager.models.fleet import OPERATE as OPERATE_FLEET
from pause_manager.scopes import RUNS, is_run, runs_in

DRILL = {"items": 200, "seconds": 0.5}


@refusing("it takes the permission to operate runs, or the fleet")
def may_release(user: Any) -> bool:
    """Whether the user may release holds of any kind."""
    return bool(user.has_perm(access.OPERATE) or user.has_perm(OPERATE_FLEET))


def release(request: Request) -> str:
    """Release the operator's hold on ``scope``."""
    scope = request.required("scope", "what to release")
    if is_run(scope):
        return _resume(request, scope)
    if not request.user.has_perm(OPERATE_FLEET):
        raise Refused(f"Cannot release {scope}: you need the permission {OPERATE_FLEET}.")
    released, _ = bulk_holds.release([scope], actor=request.actor, reason=request.reason)
    if not released:
        raise Refused(f"Cannot release {scope}: no operator holds it now.")
    return f"The hold on {scope} is released."


def _resume(request: Request, scope: str) -> str:
    ids = [UUID(name) for name in runs_in([scope])]
    if not request.user.has_perm(access.OPERATE):
        raise Refused(f"Cannot release it: you need the permission {access.OPERATE}.")
    if not access.visible_ids(request.user, ids):
        raise Refused(f"Cannot release {scope}: there is no such run.")
    lifecycle.resume(ids[0], actor=request.actor, reason=request.reason)
    return f"Run {scope.removeprefix(RUNS)[:8]} is resumed."


def unfreeze(request: Request) -> str:
    """Lift the freeze of ``lane``."""
    lane = request.required("lane", "the lane")
    if not Lane.objects.visible_to(request.user).filter(name=lane).exists():
        raise Refused(f"Cannot unfreeze {lane}: there is no such lane.")
    freezes.unfreeze(lane, actor=request.actor, reason=request.reason)
    return f"Lane {lane} is unfrozen."


def drill(request: Request) -> Done:
    """Start a drill on the first site of the user: it has nothing to lose."""
    site = first_site(request.user)
    if site is None:
        raise Refused("Cannot start a drill: your accounts have no site. An administrator can create one.")
    run: AutomationRun = creation.create("drill", site=site, actor=request.actor, params=DRILL)
    return Done("A drill has started.", location=reverse("console:run", args=[run.pk]))


def first_site(user: Any) -> Site | None:
    """The site that a drill is started on."""
    found: Site | None = Site.objects.visible_to(user).taking_runs().order_by("name", "pk").first()
    return found
