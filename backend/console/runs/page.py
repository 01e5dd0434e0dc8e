"""The page with the list of runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils.dateparse import parse_datetime

from automation.gate import installed_code
from automation.models import AutomationRun
from automation.models.runs import RunQuerySet
from automation.pipeline import all_pipelines
from backend.console import access
from backend.console.runs import activity, counts, filters, rows
from backend.console.runs.actions import ACTIONS
from backend.console.runs.audience import Audience
from backend.console.runs.filters import Wanted
from backend.console.runs.held import Held
from pause_manager.console.pages import Context, Page, Query
from pause_manager.console.viewer import Viewer

PAGE_SIZE = 25


def context(viewer: Viewer, asked: Query) -> Context:
    """Return one page of the runs that the audience may see, by the filters in ``asked``; ``before`` is its place."""
    assert isinstance(viewer, Audience)
    wanted = Wanted.of(asked)
    place = _place(asked.get("before", ""))
    titles = {pipeline.slug: installed_code.pipeline_title(pipeline.slug) for pipeline in all_pipelines()}
    held = Held()
    found = _found(wanted, viewer, held, titles, place)
    shown = found[:PAGE_SIZE]
    last = shown[-1] if len(found) > PAGE_SIZE else None
    sites = filters.choices(viewer)
    numbers = counts.by_status(wanted, viewer, held)
    return {
        "rows": rows.of(shown, may_operate=viewer.may_operate, is_shown=viewer.may_see_payloads),
        "filters": [
            (title, wanted.url(status=status), numbers[status], status == wanted.status)
            for status, (title, *_) in filters.FILTERS.items()
        ],
        "wanted": wanted,
        "sites": [(site.slug, site.name) for site in sites],
        "pipelines": sorted(titles.items(), key=lambda one: one[1]),
        "causes": [(name, title) for name, (title, *_) in filters.CAUSES.items()],
        "has_sites": len(sites) > 1,
        "newest": wanted.url() if place else None,
        "older": wanted.url(before=f"{last.created_at.isoformat()}_{last.pk}") if last else "",
        "activity": activity.chart(wanted, viewer),
        "may_operate": viewer.may_operate,
        "has_any": bool(shown) or viewer.runs().exists(),
    }


def _found(
    wanted: Wanted, audience: Audience, held: Held, titles: dict[str, str], place: tuple[datetime, UUID] | None
) -> list[AutomationRun]:
    """The runs of one page, and one more if there are further ones."""
    if not wanted.allows(wanted.status):
        return []
    runs = filters.narrowed(audience.runs(), wanted, audience, held)
    if place is not None:
        moment, pk = place
        # The first condition is what the index goes by.
        runs = runs.filter(created_at__lte=moment).filter(Q(created_at__lt=moment) | Q(pk__lt=pk))
    if not wanted.text:
        return _first(runs)
    merged = {
        run.pk: run for meaning in filters.matching(wanted.text, audience, titles) for run in _first(runs, meaning)
    }
    return sorted(merged.values(), key=lambda run: (run.created_at, run.pk), reverse=True)[: PAGE_SIZE + 1]


def _first(runs: RunQuerySet, meaning: Q | None = None) -> list[AutomationRun]:
    chosen: Any = runs if meaning is None else runs.filter(meaning)
    return list(chosen.with_leases().select_related("site").order_by("-created_at", "-id")[: PAGE_SIZE + 1])


def _place(before: str) -> tuple[datetime, UUID] | None:
    """Parse the time and id of the last run of a page; ``None`` if ``before`` is not such a pair."""
    when, _, pk = before.partition("_")
    try:
        moment, run_id = parse_datetime(when), UUID(pk)
    except ValueError:
        return None
    return (moment, run_id) if moment is not None and moment.tzinfo is not None else None


PAGE = Page(
    name="runs",
    path="runs/",
    title="Runs",
    template="console/runs/content.html",
    context=context,
    may_view=access.may_view,
    icon="runs",
    order=110,
    key="r",
    follows_progress=True,
    viewer_of=Audience.of,
    styles=("console/runs.css",),
    scripts=("console/runs_list.js",),
    actions=ACTIONS,
)
