"""The page of pause windows: when what is held again and again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pause_manager import workloads
from pause_manager.console import links, rules
from pause_manager.console.access import is_signed_in
from pause_manager.console.links import Link
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.viewer import Viewer
from pause_manager.console.windows import actions
from pause_manager.holds import windows
from pause_manager.models import PauseWindow
from pause_manager.models.clock import database_now
from pause_manager.models.fleet import OPERATE
from pause_manager.models.windows import LONGEST_MINUTES
from pause_manager.recurrence import periods

PAGE_SIZE = 25
COMING = 5


@dataclass(frozen=True)
class Stretch:
    """One time that it holds."""

    begins: datetime
    ends: datetime
    words: str
    """On the wall clock of its zone."""


@dataclass(frozen=True)
class Row:
    """One window."""

    window: PauseWindow
    words: str
    subject: Link
    is_open: bool
    coming: list[Stretch]
    """The stretch that is open, and those that come next."""
    given: dict[str, str]
    """Its rule as the form shows it."""


def context(viewer: Viewer, query: Query) -> Context:
    """Return one page of the windows that the viewer may see; ``after`` is the name of the last one before it."""
    may_operate = viewer.has_perm(OPERATE)
    rows = PauseWindow.objects.order_by("name")
    if not may_operate:
        rows = rows.exclude(workloads.hidden_scopes(viewer.user))
    after = query.get("after", "")
    found = list(rows.filter(name__gt=after)[: PAGE_SIZE + 1]) if "\x00" not in after else []
    now = database_now()
    return {
        "rows": [_row(window, now) for window in found[:PAGE_SIZE]],
        "after": after,
        "next": found[PAGE_SIZE - 1].name if len(found) > PAGE_SIZE else "",
        "may_operate": may_operate,
        "kinds": rules.KIND_WORDS.items(),
        "defaults": rules.DEFAULTS,
        "longest": LONGEST_MINUTES,
    }


def _row(window: PauseWindow, now: datetime) -> Row:
    coming = _coming(window, now) if window.is_enabled else []
    given = {name: str(value) for name in PauseWindow.RULE if (value := getattr(window, name)) not in (None, "")}
    if window.at is not None:
        given["at"] = window.at.strftime("%H:%M")
    is_open = bool(coming) and coming[0].begins <= now
    return Row(window, windows.words(window), links.of(window.scope), is_open, coming, rules.DEFAULTS | given)


def _coming(window: PauseWindow, now: datetime) -> list[Stretch]:
    found: list[Stretch] = []
    zone = window.rule.zone
    stretch = windows.current_or_next(window, now)
    while stretch is not None and len(found) < COMING:
        begins, ends = stretch[0].astimezone(zone), stretch[1].astimezone(zone)
        last = f"{ends:%H:%M %Z}" if ends - begins < timedelta(days=1) else f"{ends:%a %Y-%m-%d %H:%M %Z}"
        found.append(Stretch(stretch[0], stretch[1], f"{begins:%a %Y-%m-%d %H:%M} to {last}"))
        stretch = periods.following(window.rule, window.duration, stretch[0])
    return found


PAGE = Page(
    name="windows",
    path="windows/",
    title="Pause windows",
    template="console/windows/content.html",
    context=context,
    may_view=is_signed_in,
    icon="windows",
    order=240,
    key="w",
    refresh_seconds=10.0,
    styles=("console/windows.css",),
    actions={
        "create": Action(actions.create, OPERATE),
        "change": Action(actions.change, OPERATE),
        "skip": Action(actions.skip, OPERATE),
        "delete": Action(actions.delete, OPERATE),
    },
)
