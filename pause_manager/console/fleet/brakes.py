"""Holds in force and pause windows as the fleet page lists them, with what lifts each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from pause_manager.console import links
from pause_manager.console.links import Link
from pause_manager.holds import windows
from pause_manager.models import Hold, PauseWindow
from pause_manager.models.clock import database_now
from pause_manager.scopes import RUNS

MOST_HOLDS = 100
MOST_WINDOWS = 20
_PUBLIC = ("queue:", "node:", "resource:", "pipeline:")
"""What belongs to no account; lanes do."""


@dataclass(frozen=True)
class Brake:
    """A hold in force. ``release`` is the action that lifts it here; empty if none does."""

    hold: Hold
    subject: Link
    ends: str
    release: str
    name: str


@dataclass(frozen=True)
class Window:
    """A pause window: when it holds what, and when next."""

    window: PauseWindow
    subject: Link
    words: str
    begins: datetime | None
    ends: datetime | None
    is_open: bool


def holds(*, of_lanes: bool) -> tuple[list[Brake], bool]:
    """Return the holds in force but those on runs, newest first, and whether there are more."""
    rows = Hold.objects.active().exclude(scope__startswith=RUNS).order_by("-id")
    if not of_lanes:
        public = Q(scope="fleet")
        for prefix in _PUBLIC:
            public |= Q(scope__startswith=prefix)
        rows = rows.filter(public)
    found = list(rows[: MOST_HOLDS + 1])
    return [_brake(hold) for hold in found[:MOST_HOLDS]], len(found) > MOST_HOLDS


def _brake(hold: Hold) -> Brake:
    release, name = "", hold.scope
    if hold.kind == Hold.Kind.OPERATOR and hold.scope != "fleet":
        release = "release"
    elif hold.kind == Hold.Kind.WINDOW and "," not in hold.actor:
        release, name = "skip-window", hold.actor.partition(":")[2]
    ends = ""
    if hold.expires_at is not None:
        ends = {
            Hold.OnExpiry.RESUME: "ends",
            Hold.OnExpiry.KEEP: "overdue from",
            Hold.OnExpiry.QUIESCE: "quiesces",
            Hold.OnExpiry.CANCEL: "cancels",
        }[Hold.OnExpiry(hold.on_expiry)]
    return Brake(hold, links.of(hold.scope), ends, release, name)


def upcoming(*, of_lanes: bool) -> list[Window]:
    """Return the pause windows that are open or come next, the nearest first."""
    now = database_now()
    found = []
    for window in PauseWindow.objects.filter(is_enabled=True)[: 10 * MOST_WINDOWS]:
        if window.scope.startswith("lane:") and not of_lanes:
            continue
        period = windows.current_or_next(window, now)
        if period is None:
            continue
        begins, ends = period
        found.append(Window(window, links.of(window.scope), windows.words(window), begins, ends, begins <= now))
    return sorted(found, key=lambda one: one.begins or now)[:MOST_WINDOWS]
