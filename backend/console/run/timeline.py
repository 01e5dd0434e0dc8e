"""The life of a run as a drawing: its stages as bars, what stopped it as bands, each with who and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils import timezone

from automation import gate
from automation.models import AutomationRun, StageRun
from automation.pipeline import definition
from pause_manager.holds import wording
from pause_manager.models import Hold

WIDTH, ROW, TOP = 1000, 26, 6
MOST_BANDS = 60
"""The newest; a run that was paused more often is drawn with these."""
BOX, GAP, LINE, STEP = 204, 28, 44, 62


@dataclass(frozen=True)
class Bar:
    """One stage, or one stop, from ``x`` on; lengths are of a drawing that is ``WIDTH`` wide."""

    title: str
    since: datetime
    until: datetime | None
    x: float
    width: float
    y: float
    status: str = ""
    is_of_people: bool = False


def drawing(run: AutomationRun, stages: Sequence[dict[str, Any]], stage_runs: Sequence[StageRun]) -> dict[str, Any]:
    """The context of the timeline; empty for a run that has not started."""
    if run.started_at is None:
        return {}
    begin, end = run.created_at, run.finished_at or timezone.now()
    known = {stage["slug"]: stage for stage in stages}
    bars: list[Bar] = []
    for stage_run in stage_runs:
        if stage_run.position < 0 or stage_run.started_at is None or stage_run.slug not in known:
            continue
        until = stage_run.finished_at or run.finished_at
        stage = known[stage_run.slug]
        y = TOP + len(bars) * ROW
        x, width = _place(stage_run.started_at, until, begin, end)
        bars.append(Bar(stage["title"], stage_run.started_at, until, x, width, y, stage["status"]))
    bands = [stop.band(begin, end) for stop in stops_of(run)]
    return {
        "begin": begin,
        "end": run.finished_at,
        "bars": bars,
        "bands": bands,
        "width": WIDTH,
        "height": TOP * 2 + len(bars) * ROW,
    }


def _place(since: datetime, until: datetime | None, begin: datetime, end: datetime) -> tuple[float, float]:
    """Where a stretch of the time from ``begin`` to ``end`` stands in the drawing, and how wide it is."""
    length = max((end - begin).total_seconds(), 0.001)
    left = min(max((since - begin).total_seconds() / length, 0.0), 1.0)
    right = min(max(((until or end) - begin).total_seconds() / length, left), 1.0)
    return round(left * WIDTH, 1), round(max((right - left) * WIDTH, 2.0), 1)


@dataclass(frozen=True)
class Stop:
    """What stopped a run, and when; ``until`` is empty while it lasts."""

    title: str
    since: datetime
    until: datetime | None
    kind: str

    def band(self, begin: datetime, end: datetime) -> Bar:
        """Its band in a drawing of the time from ``begin`` to ``end``."""
        is_of_people = self.kind not in (Hold.Kind.CAPACITY, Hold.Kind.WINDOW, Hold.Kind.THROTTLED)
        x, width = _place(self.since, self.until, begin, end)
        return Bar(self.title, self.since, self.until, x, width, 0, self.kind, is_of_people)


def stops_of(run: AutomationRun) -> list[Stop]:
    """The holds that covered the run in its life, the newest first."""
    end = run.finished_at or timezone.now()
    of_run = Hold.objects.filter(scope__in=gate.scopes_of(run), created_at__lt=end)
    lasting = of_run.filter(Q(released_at=None) | Q(released_at__gt=run.created_at)).order_by("-id")[:MOST_BANDS]
    return [Stop(wording.reason_of(hold).sentence, hold.created_at, hold.released_at, hold.kind) for hold in lasting]


@dataclass(frozen=True)
class Box:
    """One stage in the graph."""

    slug: str
    title: str
    status: str
    figures: str
    x: float
    y: float


def graph(stages: Sequence[dict[str, Any]], stage_runs: Sequence[StageRun]) -> dict[str, Any]:
    """The stages as a graph from left to right; empty for a single one."""
    sources = {
        row.slug: [slug for slug in definition.of(row).sources if slug != definition.INPUT]
        for row in stage_runs
        if row.position >= 0 and row.definition
    }
    known = {stage["slug"]: stage for stage in stages if stage["slug"] in sources}
    if len(known) < 2:
        return {}
    depth: dict[str, int] = {}
    for slug in known:  # in order of position: a stage comes after what it reads
        depth[slug] = 1 + max((depth.get(one, -1) for one in sources[slug]), default=-1)
    boxes: dict[str, Box] = {}
    rows: dict[int, int] = {}
    for slug, stage in known.items():
        row = rows.get(depth[slug], 0)
        rows[depth[slug]] = row + 1
        figures = (
            "not started"
            if stage["status"] == "pending"
            else f"{stage['processed_items']:,} of {stage['total_items']:,}"
        )
        if stage["failed_items"]:
            figures += f", {stage['failed_items']:,} failed"
        boxes[slug] = Box(slug, stage["title"], stage["status"], figures, 4 + depth[slug] * (BOX + GAP), 4 + row * STEP)
    lines = [
        (boxes[one].x + BOX, boxes[one].y + LINE / 2, box.x, box.y + LINE / 2)
        for slug, box in boxes.items()
        for one in sources[slug]
        if one in boxes
    ]
    return {
        "boxes": list(boxes.values()),
        "lines": lines,
        "width": max(box.x for box in boxes.values()) + BOX + 4,
        "height": max(rows.values()) * STEP,
        "box": BOX,
        "line": LINE,
    }
