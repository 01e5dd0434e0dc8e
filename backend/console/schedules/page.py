"""The page of schedules: when each comes next, what became of the last times, and what may be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from automation.gate import installed_code
from automation.models import Schedule
from automation.reports import payload_access
from automation.schedules import report
from automation.schedules.report import Past
from backend.console import access
from backend.console.schedules import actions
from pause_manager.console import pages
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.viewer import Viewer

PAGE_SIZE = 10
SHOWN_RUNS = 24
"""Past times in the chart of a schedule."""
HEIGHTS = {"completed": 32, "with_failures": 32, "running": 20, "pending": 14, "failed": 32, "cancelled": 20}
"""Of a column in the chart, of 32; what made no run is low."""
LOW = 8
WORDS = {
    "with_failures": "completed with failures",
    "started": "started; its run was deleted",
    "failed": "failed",
    "missed": "missed",
}


@dataclass(frozen=True)
class Column:
    """One past time in the chart and in its table."""

    past: Past
    x: int
    height: int
    words: str
    reason: str

    @property
    def y(self) -> int:
        """Where the column begins, from above."""
        return 32 - self.height


@dataclass(frozen=True)
class Row:
    """One schedule."""

    schedule: Schedule
    facts: dict[str, Any]
    title: str
    columns: list[Column]
    next_free: str
    """The next time that nobody has decided about: the one that would be skipped."""


def context(viewer: Viewer, query: Query) -> Context:
    """Return one page of the schedules that the viewer may see; ``after`` is the id of the last one before it."""
    user = viewer.user
    rows = Schedule.objects.visible_to(user).select_related("site__account").order_by("pk")
    after = query.get("after", "")
    if after.isascii() and after.isdecimal() and len(after) < 19:
        rows = rows.filter(pk__gt=int(after))
    found = list(rows[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE]
    may_see = payload_access.may_view(user)
    facts = report.shown(shown, with_payloads=may_see)
    past = report.history(shown, SHOWN_RUNS)
    return {
        "rows": [
            _row(one, told, past.get(one.pk, []), may_see=may_see) for one, told in zip(shown, facts, strict=True)
        ],
        "after": after,
        "next": shown[-1].pk if len(found) > PAGE_SIZE else "",
        "may_operate": viewer.has_perm(access.OPERATE),
        "has_windows": pages.get("windows") is not None,
        "width": SHOWN_RUNS * 10,
    }


def _row(schedule: Schedule, facts: dict[str, Any], past: list[Past], *, may_see: bool) -> Row:
    first = SHOWN_RUNS - len(past)
    return Row(
        schedule,
        facts,
        installed_code.pipeline_title(schedule.pipeline),
        [_column(one, first + number, may_see=may_see) for number, one in enumerate(past)],
        next((one["local"] for one in facts["next"] if one["outcome"] is None), ""),
    )


def _column(past: Past, number: int, *, may_see: bool) -> Column:
    result = past.result
    height = HEIGHTS.get(result, LOW) if past.lifecycle else LOW
    is_failure = result == "failed" and not past.lifecycle
    words = "no run could be made" if is_failure else WORDS.get(result, result)
    reason = str(report.occurrence(past.occurrence, with_payloads=may_see)["reason"])
    return Column(past, number * 10 + 1, height, words, reason)


PAGE = Page(
    name="schedules",
    path="schedules/",
    title="Schedules",
    template="console/schedules/content.html",
    context=context,
    may_view=access.may_view,
    icon="schedules",
    order=120,
    key="s",
    refresh_seconds=10.0,
    styles=("console/schedules.css",),
    actions={
        "pause": Action(actions.pause, access.OPERATE),
        "resume": Action(actions.resume, access.OPERATE),
        "skip": Action(actions.skip, access.OPERATE),
        "unskip": Action(actions.unskip, access.OPERATE),
        "run": Action(actions.run, access.OPERATE),
        "delete": Action(actions.delete, access.OPERATE),
    },
)
