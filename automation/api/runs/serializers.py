"""Runs: what creates them, what acts on them, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from automation.api.runs import selection
from automation.api.runs.fields import AfterField, ItemsField, MoveField, PacingField, PriorityField, TimeoutField
from automation.models import AutomationRun, Lifecycle
from automation.reports import payload_access
from automation.reports.status import ALL as STATUSES
from automation.reports.working_time import Durations, durations_of
from pause_manager.api.http.strict import REASON_LENGTH, ReasonSerializer, StrictSerializer


class NewDependenciesSerializer(ReasonSerializer):
    """Runs that a run is to wait for as well."""

    after = AfterField(min_length=1)


class DependencyReleaseSerializer(StrictSerializer):
    """A dependency to remove, and why."""

    after = serializers.UUIDField(help_text="Whole id of the run that need not complete any more.")
    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Kept in the audit trail.")


class NewRunSerializer(StrictSerializer):
    """A run to create from JSON."""

    pipeline = serializers.CharField(max_length=50, help_text="Slug of a pipeline; see `pipelines/`.")
    site = serializers.CharField(max_length=60, help_text="Slug or id of a site.")
    params = serializers.DictField(
        required=False, help_text="Parameters of the pipeline; those not given have their defaults."
    )
    items = ItemsField(
        required=False, help_text="The input, in order. Left out for a pipeline that makes its own items."
    )
    pacing = PacingField(required=False)
    start = serializers.BooleanField(default=True, help_text="Start at once, or as soon as the gate opens.")
    timeout_seconds = TimeoutField()
    priority = PriorityField()
    after = AfterField(default=list)


class NewRunFormSerializer(StrictSerializer):
    """A run to create from a form with a file."""

    pipeline = serializers.CharField(max_length=50, help_text="Slug of a pipeline; see `pipelines/`.")
    site = serializers.CharField(max_length=60, help_text="Slug or id of a site.")
    params = serializers.JSONField(required=False, binary=True, help_text="Parameters as the text of a JSON object.")
    pacing = serializers.JSONField(
        required=False, binary=True, help_text="Batches, delays and limits, as the text of a JSON object."
    )
    input = serializers.FileField(
        required=False,
        allow_empty_file=True,
        help_text="As the pipeline reads it: CSV, TSV, JSON, JSON lines or Excel (.xlsx), or a gzip or zip of one.",
    )
    start = serializers.BooleanField(default=True, help_text="Start at once, or as soon as the gate opens.")
    timeout_seconds = TimeoutField()
    priority = PriorityField()
    after = AfterField(default=list)

    def validate_params(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise serializers.ValidationError(f"expected a JSON object, got: {value!r:.80}")
        return value


class DeletionQuery(ReasonSerializer):
    """Why somebody deletes a run, and that they mean it."""

    confirmation = serializers.CharField(
        max_length=REASON_LENGTH, help_text="What the operator has confirmed, in words; kept in the audit trail."
    )


class ResumeSerializer(ReasonSerializer):
    """Why a run is resumed, and whether to ignore capacity."""

    force = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Start a run that waits for capacity without checking it; the run is never parked for it again.",
    )


class RunPlaceSerializer(ReasonSerializer):
    """Another place of a run in its lane: by priority, or by a move."""

    priority = serializers.IntegerField(required=False, min_value=1, max_value=5, help_text="1 (first) to 5.")
    move = MoveField(required=False, help_text="Move within the lane; the run gets the priority of its new neighbor.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("priority" in attrs) == ("move" in attrs):
            raise serializers.ValidationError("expected either priority or move")
        return attrs


class RunSerializer(serializers.ModelSerializer[AutomationRun]):
    """One run. Pass ``many=True`` for a page: all are shown with the same number of queries as one."""

    site = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    status = serializers.SerializerMethodField(help_text="What people see; derived from all the rest.")
    lifecycle = serializers.ChoiceField(choices=Lifecycle.choices, help_text="Never rewritten by a pause.")
    params = serializers.DictField()
    pacing = PacingField()
    completed_at = serializers.DateTimeField(
        source="finished_at",
        allow_null=True,
        help_text="When the run ended, whether or not it completed. The same as `finished_at`.",
    )
    paused_seconds = serializers.SerializerMethodField(help_text="Seconds of all pauses, including the current one.")
    total_seconds = serializers.SerializerMethodField(help_text="Seconds since the start, including pauses.")
    active_seconds = serializers.SerializerMethodField(
        help_text="Seconds since the start, without the time during which it was held."
    )
    failure = serializers.SerializerMethodField(
        help_text="Why it failed, without what its stages say in their own words for callers without the permission "
        f"`{payload_access.VIEW}`."
    )
    retry_of = serializers.UUIDField(
        source="retry_of_id", allow_null=True, help_text="The run whose failures it retries."
    )
    retried_by = serializers.UUIDField(source="retried_by_id", allow_null=True, help_text="The run that retried it.")

    class Meta:
        model = AutomationRun
        fields = (
            "id",
            "site",
            "pipeline",
            "params",
            "pacing",
            "status",
            "lifecycle",
            "total_items",
            "failed_items",
            "created_by",
            "created_at",
            "start_requested_at",
            "started_at",
            "finished_at",
            "completed_at",
            "paused_at",
            "resumed_at",
            "cancel_requested_at",
            "cancelled_at",
            "paused_seconds",
            "total_seconds",
            "active_seconds",
            "failure",
            "retry_of",
            "retried_by",
            "timeout_seconds",
        )
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=STATUSES))
    def get_status(self, run: AutomationRun) -> str:
        known: str = self.context["statuses"][run.pk]
        return known

    def get_failure(self, run: AutomationRun) -> str:
        return payload_access.failure(run.failure, is_shown=self.context["is_shown"])

    def get_paused_seconds(self, run: AutomationRun) -> float:
        going_on = (self._read_at(run) - run.paused_at).total_seconds() if run.paused_at is not None else 0.0
        return round(run.paused_seconds + max(0.0, going_on), 3)

    def get_total_seconds(self, run: AutomationRun) -> float:
        return round(self._durations(run).total, 3)

    def get_active_seconds(self, run: AutomationRun) -> float:
        return round(self._durations(run).active, 3)

    def _durations(self, run: AutomationRun) -> Durations:
        known: Durations = self.context["durations"][run.pk]
        return known

    @staticmethod
    def _read_at(run: AutomationRun) -> Any:
        return run.read_at  # type: ignore[attr-defined]


class PlacedRunSerializer(RunSerializer):
    """A run, and where it is now in its lane."""

    priority = serializers.IntegerField()
    position = serializers.IntegerField(allow_null=True, help_text="1 is next; null if it does not wait for a place.")
    moved = serializers.CharField(help_text="What was done, in words.")

    class Meta(RunSerializer.Meta):
        fields = (*RunSerializer.Meta.fields, "priority", "position", "moved")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]


class LeftOutSerializer(serializers.Serializer[Any]):
    """Input that was left out."""

    kind = serializers.CharField(
        help_text="`blank`, `duplicate`, `before_header`, `total`, `repeated_header` or `other_part`."
    )
    count = serializers.IntegerField()
    examples = serializers.ListField(child=serializers.CharField(), help_text="The first few, with their places.")


class InputSerializer(serializers.Serializer[Any]):
    """How an input was read."""

    name = serializers.CharField(help_text="The file, or `items`.")
    format = serializers.CharField(help_text="`CSV`, `TSV`, `lines`, `JSON`, `JSON lines`, `Excel` or `items`.")
    part = serializers.CharField(help_text="Member of an archive, sheet of a workbook or list in JSON that was read.")
    encoding = serializers.CharField()
    delimiter = serializers.CharField()
    header_at = serializers.IntegerField(allow_null=True, help_text="Line or row of the header; null if it has none.")
    columns = serializers.ListField(child=serializers.CharField(), help_text="The first 50.")
    column_count = serializers.IntegerField()
    items = serializers.IntegerField()
    left_out = LeftOutSerializer(many=True)
    warnings = serializers.ListField(child=serializers.CharField(), help_text="What a person should look at.")


class CreatedRunSerializer(RunSerializer):
    """A run that was just created, and how its input was read."""

    input = InputSerializer(required=False, help_text="Left out for a pipeline that makes its own items.")

    class Meta(RunSerializer.Meta):
        fields = (*RunSerializer.Meta.fields, "input")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]


def shown(run: AutomationRun, user: Any) -> dict[str, Any]:
    """One run from ``selection.visible`` as JSON for ``user``."""
    return shown_all([run], user)[0]


def shown_all(found: Sequence[AutomationRun], user: Any) -> list[dict[str, Any]]:
    """Runs from ``selection.visible`` as JSON for ``user``."""
    context = {
        "statuses": selection.status_of_each(found),
        "durations": durations_of(found),
        "is_shown": payload_access.may_view(user),
    }
    return [dict(entry) for entry in RunSerializer(found, many=True, context=context).data]
