"""Filters of the list of runs."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from rest_framework import serializers

from automation.gate import pending
from automation.models import Lifecycle
from automation.models.runs import RunQuerySet
from automation.reports import status
from automation.reports.status import ALL as STATUSES
from pause_manager.api.http.pagination import PageQuery


class RunQuery(PageQuery):
    """Filters of the list of runs."""

    status = serializers.ChoiceField(choices=STATUSES, required=False, help_text="Derived status.")
    site = serializers.CharField(max_length=60, required=False, help_text="Slug or id of a site.")
    pipeline = serializers.CharField(max_length=50, required=False, help_text="Slug of a pipeline.")


def by_status(rows: RunQuerySet, wanted: str) -> RunQuerySet:
    """The runs whose derived status is ``wanted``: :func:`automation.reports.status.derive` as a query."""
    if wanted in (Lifecycle.COMPLETED, status.COMPLETED_WITH_FAILURES):
        completed = rows.filter(lifecycle=Lifecycle.COMPLETED)
        return (
            completed.filter(failed_items=0) if wanted == Lifecycle.COMPLETED else completed.filter(failed_items__gt=0)
        )
    if wanted in status.FINAL:
        return rows.filter(lifecycle=wanted)
    rows = rows.unfinished().filter(cancel_requested_at__isnull=wanted != status.CANCELLING)
    if wanted == status.CANCELLING:
        return rows
    if wanted in (status.PAUSING, status.PAUSED):
        return rows.filter(paused_at__isnull=False).filter(Q(("is_leased", wanted == status.PAUSING)))
    rows = rows.filter(paused_at__isnull=True)
    # Runs that the gate keeps, although they have no hold of their own.
    kept = Q(pk__in=pending.kept_ids())
    return rows.filter(kept) if wanted == status.WAITING else rows.filter(lifecycle=wanted).exclude(kept)


def narrowed(rows: RunQuerySet, query: dict[str, Any], site_id: int | None) -> RunQuerySet:
    """``rows`` by the filters of a :class:`RunQuery`."""
    if site_id is not None:
        rows = rows.filter(site=site_id)
    if "pipeline" in query:
        rows = rows.filter(pipeline=query["pipeline"])
    return by_status(rows, query["status"]) if "status" in query else rows
