"""The page of resources outside that work uses: state, limits, use now, who waits, and what changes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pause_manager import overrides, scopes
from pause_manager.console import charts, links
from pause_manager.console.access import is_signed_in
from pause_manager.console.charts import Part
from pause_manager.console.links import Link
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.resources import actions
from pause_manager.console.viewer import Viewer
from pause_manager.models import Hold, Override, Resource
from pause_manager.models.fleet import OPERATE
from pause_manager.resources import report
from pause_manager.resources.report import HoldOnIt, ResourceReport
from pause_manager.workloads import Waiter

MOST_ROWS = 200
MOST_IN_LINE = 5
"""Of each kind."""


@dataclass(frozen=True)
class Row:
    """One resource. ``state`` is a class of the style sheet, ``words`` says it."""

    resource: ResourceReport
    state: str
    words: str
    until: datetime | None
    by_hand: HoldOnIt | None
    is_operators: bool
    use: tuple[Part, ...]
    limits_for_a_while: tuple[tuple[Override, str], ...]
    line: tuple[tuple[Waiter, Link], ...]
    """The first who wait for it; who they are is told to those who see everybody's."""


def context(viewer: Viewer, query: Query) -> Context:
    """Return the context of the page."""
    found = report.of_all()
    shown = found[:MOST_ROWS]
    names = [one.name for one in shown]
    active = Override.objects.active().filter(scope__in=map(scopes.resource, names)).order_by("id")
    by_name: dict[str, list[tuple[Override, str]]] = {}
    for override in active:
        by_name.setdefault(override.target, []).append((override, _told(override)))
    return {
        "rows": [_row(one, by_name.get(one.name, []), viewer) for one in shown],
        "count": len(found),
        "may_operate": viewer.has_perm(OPERATE),
    }


def _told(override: Override) -> str:
    kind = overrides.kind_of(override.kind)
    return f"{kind.title}: {kind.told(override.value)}, then {kind.told(override.previous)}"


def _line(one: ResourceReport, viewer: Viewer) -> tuple[tuple[Waiter, Link], ...]:
    """Named are they for a superuser alone: others share the page with people of other tenants."""
    if not one.waiting:
        return ()
    found = report.line(one.name, None, MOST_IN_LINE)
    if not viewer.is_superuser:
        return tuple((replace(waiter, ref="", title=""), Link("")) for waiter in found)
    return tuple((waiter, links.of(waiter.ref)) for waiter in found)


def _row(one: ResourceReport, limits_for_a_while: list[tuple[Override, str]], viewer: Viewer) -> Row:
    by_hand = next((hold for hold in one.holds if hold.kind != Hold.Kind.THROTTLED), None)
    state, words, until = _state(one, by_hand)
    total = max(one.max_at_once or 0, one.in_use)
    use = charts.stacked(total, [("ours", one.in_use, f"{one.in_use:,}")]) if one.max_at_once else ()
    is_operators = by_hand is not None and by_hand.kind == Hold.Kind.OPERATOR
    return Row(one, state, words, until, by_hand, is_operators, use, tuple(limits_for_a_while), _line(one, viewer))


def _state(one: ResourceReport, by_hand: HoldOnIt | None) -> tuple[str, str, datetime | None]:
    if by_hand is not None:
        return "paused", "Held", by_hand.expires_at
    if one.state == Resource.State.HELD:
        return "failed", "Said “too much”", one.next_probe_at
    if one.state == Resource.State.PROBING:
        return "waiting", "Asked again by one", None
    if one.state == Resource.State.RAMPING:
        return "waiting", f"Answers again: {one.permitted} at once now", None
    if one.max_at_once is not None and one.in_use >= one.max_at_once:
        return "waiting", "At its limit", None
    if one.max_at_once is not None or one.max_per_minute is not None:
        return "running", "Limited", None
    return "completed", "Open", None


PAGE = Page(
    name="resources",
    path="resources/",
    title="Resources",
    template="console/resources/content.html",
    context=context,
    may_view=is_signed_in,
    icon="resources",
    order=230,
    key="e",
    refresh_seconds=3.0,
    is_shared=True,
    styles=("console/fleet.css",),
    actions={
        "hold": Action(actions.hold, OPERATE),
        "release": Action(actions.release, OPERATE),
        "limit": Action(actions.limit, OPERATE),
        "ask-again": Action(actions.ask_again, OPERATE),
        "end-override": Action(actions.end_override, OPERATE),
    },
)
