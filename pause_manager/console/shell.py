"""The state that every page shows: whether the fleet works, and what is held fleet-wide."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.template.loader import render_to_string
from django.urls import reverse

from pause_manager.console.links import Link
from pause_manager.console.live.sse import Topic, Update
from pause_manager.console.viewer import Viewer
from pause_manager.fleet import drain
from pause_manager.holds import fleet_state
from pause_manager.holds.fleet_state import FLEET, FleetState
from pause_manager.models import Hold
from pause_manager.models.fleet import OPERATE

REFRESH_SECONDS = 5.0
UNDRAINED = "It is not drained: what was lost is handed out again, and an upgrade in progress may meet new work."

_parents: dict[str, str] = {}
_links: list[Callable[[Any], Link | None]] = []


@dataclass(frozen=True)
class Line:
    """One line of the banner: what is held, by whom, and what a viewer may do about it."""

    title: str
    since: datetime | None = None
    actor: str = ""
    reason: str = ""
    tail: str = ""
    action: dict[str, str] | None = None


_UNREADABLE = Line("The state of the fleet cannot be read.", tail="It counts as paused until it can.")


def add_link(link: Callable[[Any], Link | None]) -> None:
    """Add a link to the account's menu: a function from the user to it, or to ``None``."""
    _links.append(link)


def links_for(user: Any) -> list[Link]:
    """Return the links of the account's menu."""
    return [found for link in _links if (found := link(user)) is not None]


def belongs_to(url_name: str, page: str) -> None:
    """Mark a URL as part of a page: the navigation shows that page as the current one."""
    _parents[url_name] = page


def parent_of(url_name: str) -> str:
    """Return the page that a URL is part of; empty if it is none's."""
    return _parents.get(url_name, "")


def read_state() -> FleetState:
    """Return the state of the fleet; what cannot be read counts as paused."""
    try:
        return fleet_state.read()
    except DatabaseError:
        return fleet_state.unreadable()


def badge(state: FleetState) -> dict[str, str]:
    """Return the context of the badge: ``Running``, ``Paused (Drain)``, ``Paused (Quiesce)`` or ``unknown`` (W-30)."""
    if not state.is_readable:
        return {"state": "unknown", "words": "unknown", "hint": fleet_state.UNREADABLE}
    if not state.is_paused:
        return {"state": "running", "words": "Running", "hint": "The fleet takes new work."}
    hint = f"{state.reason} ({state.requested_by.removeprefix('user:')})"
    return {"state": "paused", "words": f"Paused ({state.mode.capitalize()})", "hint": hint}


def banner(state: FleetState, viewer: Viewer) -> list[Line]:
    """Return what is held fleet-wide, the fleet switch first; each line with its own since and actor."""
    if not state.is_readable:
        return [_UNREADABLE]
    try:
        rows = Hold.objects.covering([FLEET]).exclude(kind=Hold.Kind.OPERATOR).order_by("created_at")
        lines = [_line(row) for row in rows]
    except DatabaseError:
        return [_UNREADABLE]
    return [_switch(state, viewer), *lines] if state.is_paused else lines


def _switch(state: FleetState, viewer: Viewer) -> Line:
    metrics = drain.measure(state.mode)
    left = metrics.running + metrics.stale_running
    drained = "drained, safe to upgrade" if metrics.is_drained else f"{left} still running"
    tail = f"It is {drained}; {metrics.queued:,} queued."
    action = _resume(metrics.is_drained) if viewer.has_perm(OPERATE) else None
    return Line("Fleet paused", state.requested_at, state.requested_by, state.reason, tail, action)


def _resume(is_drained: bool) -> dict[str, str]:
    forced = "" if is_drained else f" {UNDRAINED}"
    return {
        "url": reverse("console:fleet"),
        "title": "Resume the fleet?" if is_drained else "Resume although work is still running?",
        "text": f"Workers take work again, and what was stopped continues from where it is.{forced}",
        "button": "Resume" if is_drained else "Resume anyway",
        "values": json.dumps({"do": "resume"} | ({} if is_drained else {"force": "1"})),
    }


def _line(hold: Hold) -> Line:
    is_window = hold.kind == Hold.Kind.WINDOW
    title = "Fleet paused by a pause window" if is_window else f"Fleet held ({hold.get_kind_display()})"
    return Line(title, hold.created_at, hold.actor, hold.reason)


def badge_topic(user: Any, subject: str, query: dict[str, str], name: str) -> Topic:
    """The topic of the badge; it is the same for everybody."""
    return Topic(name, ("fleet-badge",), FLEET, _render_badge, REFRESH_SECONDS)


def banner_topic(user: Any, subject: str, query: dict[str, str], name: str) -> Topic:
    """The topic of the banner; it differs by whether the reader may resume."""
    if not user.is_authenticated:
        raise PermissionDenied
    viewer = Viewer(None, frozenset({OPERATE} if user.has_perm(OPERATE) else ()))

    def render() -> Update:
        return Update(render_to_string("console/_shell_banner.html", {"lines": banner(read_state(), viewer)}).strip())

    return Topic(name, ("fleet-banner", viewer), FLEET, render, REFRESH_SECONDS)


def _render_badge() -> Update:
    return Update(render_to_string("console/_shell_state.html", badge(read_state())).strip())
