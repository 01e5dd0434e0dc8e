"""The page of the audit trail: what was done, by whom, through which channel and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from pause_manager import workloads
from pause_manager.console.access import refusing, restricted
from pause_manager.console.audit import sentences
from pause_manager.console.audit.filters import AGES, SEARCHED, Filters
from pause_manager.console.pages import Context, Page, Query
from pause_manager.console.viewer import Viewer
from pause_manager.models import ControlEvent, ControlEventQuerySet
from pause_manager.observability import audit_export

PAGE_SIZE = 50
FORMATS = {"csv": "CSV", "jsonl": "JSON lines"}


@refusing("To see this page, you need the permission to view control events, or the work that they report.")
def may_view(user: Any) -> bool:
    """Whether some events are theirs to read."""
    return workloads.visible_events(user) is not None


def context(viewer: Viewer, query: Query) -> Context:
    """Return one page of the events that the viewer may read; ``before`` is the last one of the page before."""
    user = viewer.user
    filters = Filters.of(query)
    rows = filters.narrow(_visible(user))
    place = _place(query.get("before", ""))
    if place is not None:
        at, pk = place
        # The first condition is what the index goes by.
        rows = rows.filter(at__lte=at).filter(Q(at__lt=at) | Q(pk__lt=pk))
    found = list(rows[: PAGE_SIZE + 1])
    shown = workloads.events_for(user, found[:PAGE_SIZE])
    last = shown[-1] if len(found) > PAGE_SIZE else None
    return {
        "events": [sentences.tell(event) for event in shown],
        "given": filters.given,
        "problems": filters.problems,
        "filter_query": filters.query,
        "is_paged": place is not None,
        "older": f"{last.at.isoformat()}_{last.pk}" if last is not None else "",
        "actions": ControlEvent.objects.values_used("action"),
        "channels": ControlEvent.objects.values_used("channel"),
        "ages": AGES.items(),
        "searched": SEARCHED,
        "formats": FORMATS.items(),
    }


def _visible(user: Any) -> ControlEventQuerySet:
    visible = workloads.visible_events(user)
    return ControlEvent.objects.none() if visible is None else visible


def _place(before: str) -> tuple[datetime, int] | None:
    """Parse the time and number of the last event of a page; ``None`` if it is not such a pair."""
    when, _, number = before.partition("_")
    try:
        at = parse_datetime(when)
    except ValueError:
        return None
    is_number = number.isascii() and number.isdecimal() and len(number) < 19
    return (at, int(number)) if at is not None and at.tzinfo is not None and is_number else None


@require_safe
@restricted(may_view)
def export(request: HttpRequest) -> HttpResponseBase:
    """Download all events that the filters let through, as ``type`` says."""
    format = request.GET.get("type", "csv")
    if format not in audit_export.ENCODERS:
        known = ", ".join(sorted(audit_export.ENCODERS))
        return HttpResponseBadRequest(f"Cannot export: expected as type one of {known}; got: {format[:40]}")
    filters = Filters.of(request.GET.dict())
    if filters.problems:
        return HttpResponseBadRequest(f"Cannot export: {' '.join(filters.problems)}")
    return audit_export.exported(request, filters.narrow(_visible(request.user)), format)


PAGE = Page(
    name="audit",
    path="audit/",
    title="Audit",
    template="console/audit/content.html",
    context=context,
    may_view=may_view,
    icon="audit",
    order=310,
    key="a",
    styles=("console/audit.css",),
)
