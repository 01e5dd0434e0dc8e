"""Filters of the list of runs."""

from __future__ import annotations

from typing import Any

from django.db.models import BooleanField, CharField, Exists, OuterRef, Q, Value
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KT
from django.db.models.functions import Concat
from rest_framework import serializers

from automation.gate import dependencies, installed_code, lane_order
from automation.models import Lifecycle, StageRun
from automation.models.runs import RunQuerySet
from automation.models.tables import RUN
from automation.reports import status
from automation.reports.status import ALL as STATUSES
from pause_manager.api.http.pagination import PageQuery
from pause_manager.models import Hold
from pause_manager.scopes import RUNS


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
    if wanted == Lifecycle.RUNNING:
        return rows.filter(lifecycle=Lifecycle.RUNNING)
    rows = rows.filter(lifecycle=Lifecycle.PENDING)
    kept = _kept()
    return rows.filter(kept) if wanted == status.WAITING else rows.exclude(kept)


def _kept() -> Q:
    """Pending runs without a hold of their own that the gate keeps: a wider hold, their lane, want of code."""
    held = set(Hold.objects.active().exclude(scope__startswith=RUNS).values_list("scope", flat=True))
    if "fleet" in held:
        return Q(pk__isnull=False)
    names: dict[str, list[str]] = {"pipeline": [], "lane": [], "queue": []}
    for scope in held:
        kind, _, name = scope.partition(":")
        names.get(kind, []).append(name)
    current = StageRun.objects.filter(run=OuterRef("pk")).current().order_by()
    interface = KT("definition__interface")
    code = Concat(OuterRef("pipeline"), Value("/"), "slug", Value("/"), interface, output_field=CharField())
    lacks_code = Exists(current.alias(code=code).exclude(code__in=installed_code.keys()))
    in_queue = Exists(current.filter(definition__queue__in=names["queue"]))
    by_name = Q(pipeline__in=names["pipeline"]) | Q(lane__in=names["lane"])
    waits = Q(_sql(lane_order.must_wait(RUN))) | Q(_sql(dependencies.unmet(RUN)))
    return by_name | waits | Q(in_queue) | Q(lacks_code) | Q(copying__isnull=False)


def _sql(condition: str) -> RawSQL:
    return RawSQL(condition, [], output_field=BooleanField())


def narrowed(rows: RunQuerySet, query: dict[str, Any], site_id: int | None) -> RunQuerySet:
    """``rows`` by the filters of a :class:`RunQuery`."""
    if site_id is not None:
        rows = rows.filter(site=site_id)
    if "pipeline" in query:
        rows = rows.filter(pipeline=query["pipeline"])
    return by_status(rows, query["status"]) if "status" in query else rows
