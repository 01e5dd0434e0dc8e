"""``/api/v1/credits/usage/…``: usage by day for charts, and by day, pipeline or run for lists."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from automation.api import schema
from automation.api.runs import selection
from automation.api.schema import READ, answers
from automation.contrib.credits.api.serializers import CreditsField
from automation.contrib.credits.api.views import TAGS, CreditsView
from automation.contrib.credits.models.accounts import check_time_zone
from automation.contrib.credits.reports import usage_history
from automation.contrib.credits.reports.usage_history import Filters
from pause_manager.api.http.pagination import PageQuery, page_of

DAYS = 30
"""If ``since`` is left out."""


class HistoryQuery(serializers.Serializer[Any]):
    """Which usage."""

    since = serializers.DateField(required=False, help_text=f"The first day; if left out, {DAYS} days in all.")
    until = serializers.DateField(required=False, help_text="The last day; if left out, today.")
    time_zone = serializers.CharField(default="UTC", max_length=64, help_text="Time zone in which days begin.")
    account = serializers.IntegerField(required=False, help_text="Id of an account.")
    site = serializers.CharField(required=False, max_length=60, help_text="Slug or id of a site.")
    pipeline = serializers.CharField(required=False, max_length=50, help_text="Slug of a pipeline.")
    stage = serializers.CharField(required=False, max_length=50, help_text="Slug of a stage.")
    run_id = serializers.UUIDField(required=False, help_text="Id of a run.")

    def validate_time_zone(self, name: str) -> str:
        """One that exists."""
        check_time_zone(name)
        return name


class ChartQuery(HistoryQuery):
    """What a chart has a series of."""

    by = serializers.ChoiceField(choices=usage_history.SERIES, default="pipeline", help_text="One series per …")


class RowsQuery(HistoryQuery, PageQuery):
    """What rows are of."""

    by = serializers.ChoiceField(choices=usage_history.GROUPS, default="day", help_text="One row per …")


class SeriesSerializer(serializers.Serializer[Any]):
    """Credits for each day of the chart."""

    name = serializers.CharField()
    values = serializers.ListField(child=CreditsField())


class UsageChartSerializer(serializers.Serializer[Any]):
    """Series by size, the largest first; those after the first twelve are summed as `others`."""

    days = serializers.ListField(child=serializers.DateField())
    series = SeriesSerializer(many=True)
    total = CreditsField()


class UsageRowSerializer(serializers.Serializer[Any]):
    """What a day, pipeline or run has used."""

    name = serializers.CharField(help_text="The day, the pipeline's slug, or the run's id.")
    credits = CreditsField()
    pipeline = serializers.CharField(help_text="Pipeline, if rows are by pipeline or run; else empty.")
    site = serializers.CharField(help_text="Site, if rows are by run; else empty.")
    started_at = serializers.DateTimeField(allow_null=True, help_text="Of a run.")


class HistoryView(CreditsView):
    """A view over the history of the caller's accounts."""

    def filters(self, query: dict[str, Any]) -> Filters:
        """What was asked for, of the caller's accounts alone."""
        until = query.get("until") or timezone.now().date()
        accounts = [pk for pk in self.accounts().values_list("pk", flat=True) if query.get("account", pk) == pk]
        site = selection.find_site(self.request.user, query["site"]).pk if "site" in query else None
        return Filters(
            accounts=accounts,
            since=query.get("since") or until - timedelta(days=DAYS - 1),
            until=until,
            time_zone=query["time_zone"],
            site=site,
            pipeline=query.get("pipeline"),
            stage=query.get("stage"),
            run=query.get("run_id"),
        )


class UsageChart(HistoryView):
    """Usage by day."""

    @extend_schema(
        operation_id="usage_chart",
        summary="Show what was used by day, a series for each pipeline, stage or site",
        description="At most 366 days.",
        tags=TAGS,
        parameters=[ChartQuery, schema.REQUEST_ID],
        responses=answers({200: UsageChartSerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(ChartQuery)
        found = usage_history.chart(self.filters(query), query["by"])
        return Response(UsageChartSerializer(found).data)


class UsageRows(HistoryView):
    """Usage in rows."""

    @extend_schema(
        operation_id="usage_rows",
        summary="List what was used by day, pipeline or run",
        description="At most 366 days.",
        tags=TAGS,
        parameters=[RowsQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("UsageRowPage", UsageRowSerializer)}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(RowsQuery)
        found = usage_history.page(self.filters(query), query["by"], after=query["cursor"], limit=query["limit"])
        following = None
        if found.next is not None:
            following = replace_query_param(request.build_absolute_uri(), "cursor", found.next)
        return Response({"next": following, "results": UsageRowSerializer(found.rows, many=True).data})
