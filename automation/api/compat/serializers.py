"""Requests and answers of the endpoints that name a site."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.api.progress.serializers import CountsSerializer
from automation.api.runs.serializers import RunSerializer
from automation.api.schema import RUN
from automation.reports.status import ALL as STATUSES
from pause_manager.api.http.strict import StrictSerializer

SITE = "Slug or id of a site."


class SiteQuery(StrictSerializer):
    site_id = serializers.CharField(max_length=60, required=False, help_text=SITE)


class TargetQuery(SiteQuery):
    run_id = serializers.CharField(max_length=64, required=False, help_text=f"{RUN}.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("expected run_id, site_id or both, got neither")
        return attrs


class ProcessingQuery(SiteQuery):
    run_id = serializers.CharField(max_length=64, required=False, help_text=f"{RUN}; else the current one.")


class LogQuery(SiteQuery):
    run_id = serializers.CharField(max_length=64, help_text=f"{RUN}.")
    lines = serializers.IntegerField(default=100, min_value=1, max_value=1_000, help_text="Lines at most, the newest.")


class CurrentRunSerializer(serializers.Serializer[Any]):
    """The run in progress, or the newest that waits; null if all are finished."""

    run = RunSerializer(allow_null=True)


class HistorySerializer(serializers.Serializer[Any]):
    """The last 20 runs, newest first."""

    results = RunSerializer(many=True)


class LogSerializer(serializers.Serializer[Any]):
    """What happened to a run, oldest first."""

    run_id = serializers.UUIDField()
    lines = serializers.ListField(child=serializers.CharField())


class NamedItemSerializer(serializers.Serializer[Any]):
    """An item as a person knows it."""

    stage = serializers.CharField()
    key = serializers.CharField(allow_null=True, help_text="`prepare` or `finish` for a hook.")
    title = serializers.CharField()


class ItemAtWorkSerializer(NamedItemSerializer):
    """An item in progress, and who works on it."""

    worker = serializers.CharField()
    since = serializers.DateTimeField()


class ProcessingSerializer(serializers.Serializer[Any]):
    """Totals of the current stage, with the items in progress and the next ones. Nulls and zeros without a run."""

    run_id = serializers.UUIDField(allow_null=True)
    status = serializers.ChoiceField(choices=STATUSES, allow_null=True)
    stage = serializers.CharField(allow_null=True, help_text="Slug of the stage the totals are of.")
    title = serializers.CharField(allow_null=True)
    total_items = serializers.IntegerField()
    processed_items = serializers.IntegerField()
    failed_items = serializers.IntegerField()
    remaining_count = serializers.IntegerField()
    percentage = serializers.FloatField()
    now = ItemAtWorkSerializer(many=True)
    next = NamedItemSerializer(many=True)
    overall = CountsSerializer(allow_null=True)
