"""The page of lanes: who holds a place, who waits in which order and why, and what may be changed of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from automation import gate
from automation.gate import Reason, installed_code
from automation.models import AutomationRun, Lane, Site
from automation.models.lanes import MOST_WIDTH
from automation.reports import lane_queue, payload_access
from automation.reports.lane_queue import LaneQueue, Waiting
from automation.runs.lane_moves import PRIORITIES
from backend.console import access
from backend.console.lanes import actions
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.viewer import Viewer
from pause_manager.models import Override

MOST_LANES = 10
"""Lanes a page."""
FEW = 3
"""Runs of a kind in each lane, where several lanes are shown."""
MOST = 20
"""Runs of a kind, where one lane is shown."""


@dataclass(frozen=True)
class Line:
    """One run of a lane."""

    run: AutomationRun
    title: str
    position: int | None = None
    expected: datetime | None = None
    reason: Reason | None = None
    more_reasons: int = 0
    above: str = ""
    """The run before it; it moves up before that."""
    below: str = ""
    """The run that it comes before when it moves down; ``-`` if it is to be the last."""


@dataclass(frozen=True)
class LaneView:
    """One lane as the page shows it."""

    queue: LaneQueue
    site: str
    active: list[Line]
    waiting: list[Line]
    paused: list[Line]
    override: Override | None
    active_count: int
    """Runs that hold a place, those that are not listed included."""

    @property
    def more_waiting(self) -> int:
        """Those that are not listed."""
        return self.queue.waiting_count - len(self.waiting)


def context(viewer: Viewer, query: Query) -> Context:
    """Return a page of the lanes that the viewer may see, or the one that ``lane`` names, with more of its runs."""
    user = viewer.user
    lanes = Lane.objects.visible_to(user)
    name, after = query.get("lane", ""), query.get("after", "")
    if name:
        found = list(lanes.filter(name=name))
    else:
        found = list(lanes.filter(name__gt=after).order_by("name")[: MOST_LANES + 1])
    shown = found[:MOST_LANES]
    is_single = bool(name) or (len(shown) == 1 and not after)
    names = dict(Site.objects.filter(slug__in=[lane.name for lane in shown]).values_list("slug", "name"))
    active = Override.objects.active().filter(kind="lane_width", target__in=[lane.name for lane in shown])
    overrides = {override.target: override for override in active}
    may_see = payload_access.may_view(user)
    return {
        "lanes": [
            _view(lane, names.get(lane.name, ""), overrides.get(lane.name), MOST if is_single else FEW, may_see=may_see)
            for lane in shown
        ],
        "is_single": is_single,
        "wanted": name,
        "after": after,
        "next": shown[-1].name if len(found) > MOST_LANES else "",
        "may_operate": viewer.has_perm(access.OPERATE),
        "policies": Lane.Policy.choices,
        "priorities": PRIORITIES,
        "most_width": MOST_WIDTH,
    }


def _view(lane: Lane, site: str, override: Override | None, at_most: int, *, may_see: bool) -> LaneView:
    queue = lane_queue.of(lane, at_most=at_most)
    ids = [str(one.run.pk) for one in queue.waiting]
    waiting = [
        _line(one, ids, number, is_last=len(ids) == queue.waiting_count, is_timed=at_most == MOST, may_see=may_see)
        for number, one in enumerate(queue.waiting)
    ]
    active, paused = ([Line(run, _title(run)) for run in runs] for runs in (queue.active, queue.paused))
    seated = AutomationRun.objects.unfinished().filter(lane=lane.name, lane_seat_at__isnull=False)
    count = len(active) if len(active) < at_most else seated.count()
    return LaneView(queue, site, active, waiting, paused, override, count)


def _line(one: Waiting, ids: list[str], number: int, *, is_last: bool, is_timed: bool, may_see: bool) -> Line:
    reasons = one.reasons if may_see else payload_access.without_texts(one.reasons)
    below = ids[number + 2] if number + 2 < len(ids) else "-" if is_last and number + 1 < len(ids) else ""
    return Line(
        one.run,
        _title(one.run),
        one.position,
        gate.place_in_line(one.run).expected_start if is_timed else None,
        reasons[0] if reasons else None,
        max(0, len(reasons) - 1),
        above=ids[number - 1] if number else "",
        below=below,
    )


def _title(run: AutomationRun) -> str:
    return installed_code.pipeline_title(run.pipeline)


PAGE = Page(
    name="lanes",
    path="lanes/",
    title="Lanes",
    template="console/lanes/content.html",
    context=context,
    may_view=access.may_view,
    icon="lanes",
    order=235,
    key="l",
    refresh_seconds=5.0,
    styles=("console/lanes.css",),
    scripts=("console/lanes.js",),
    actions={
        "freeze": Action(actions.freeze, access.OPERATE),
        "unfreeze": Action(actions.unfreeze, access.OPERATE),
        "change": Action(actions.change, access.OPERATE),
        "move": Action(actions.move, access.OPERATE),
        "priority": Action(actions.priority, access.OPERATE),
    },
)
