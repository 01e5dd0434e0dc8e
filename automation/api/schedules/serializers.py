"""Requests and answers about schedules."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.api.runs.fields import ItemsField, PacingField
from automation.models import Schedule, ScheduleOccurrence
from automation.schedules import report
from pause_manager.api.http.pagination import PageQuery
from pause_manager.api.http.strict import ReasonSerializer, StrictSerializer
from pause_manager.recurrence import KINDS

CLOCK = ["%H:%M"]


class ScheduleQuery(PageQuery):
    """Filters of the list of schedules."""

    site = serializers.CharField(max_length=60, required=False, help_text="Slug or id of a site.")
    pipeline = serializers.CharField(max_length=50, required=False, help_text="Slug of a pipeline.")


class RuleSerializer(StrictSerializer):
    """When something comes. Each `kind` needs its own fields and takes none of the others."""

    kind = serializers.ChoiceField(choices=KINDS)
    at = serializers.TimeField(
        required=False,
        allow_null=True,
        input_formats=CLOCK,
        format=CLOCK[0],
        help_text="daily, weekly, monthly: `08:00`.",
    )
    weekdays = serializers.CharField(
        required=False, allow_blank=True, max_length=60, help_text="weekly: as in cron, `mon-fri` or `sat,sun`."
    )
    day_of_month = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=31,
        help_text="monthly; or the last day of a shorter one.",
    )
    cron = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="cron: `minute hour day-of-month month weekday`."
    )
    every_minutes = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=527_040, help_text="interval."
    )
    time_zone = serializers.CharField(required=False, max_length=64, help_text="IANA name; `UTC` if left out.")


class ScheduleFieldsSerializer(RuleSerializer):
    """What can be changed of a schedule."""

    name = serializers.CharField(max_length=60, help_text="Small letters, digits, - and _; unique for the site.")
    pipeline = serializers.CharField(max_length=50, help_text="Slug of a pipeline; see `automation/pipelines/`.")
    params = serializers.DictField(required=False, help_text="Parameters of the pipeline, checked now.")
    pacing = PacingField(required=False)
    items = ItemsField(
        required=False, help_text="The input of every run. Left out for a pipeline that makes its own items."
    )
    priority = serializers.IntegerField(required=False, min_value=1, max_value=5, help_text="Of its runs; 1 is first.")
    is_enabled = serializers.BooleanField(required=False)
    catch_up = serializers.ChoiceField(
        required=False,
        choices=Schedule.CatchUp.values,
        help_text="What starts of what an outage or a pause missed: all (24 at most), the last one, or none.",
    )
    skip_if_active = serializers.BooleanField(
        required=False, help_text="An occurrence is skipped while the site has an unfinished run; true if left out."
    )
    min_hours_between = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=8_784,
        help_text="An occurrence is skipped if a run of the pipeline started for the site less long ago. Null: 23 if "
        "`kind` is daily, else 0.",
    )
    expires_at = serializers.DateTimeField(
        required=False,
        allow_null=True,
        help_text="When the schedule ends; delayed by the time for which it is held or paused.",
    )


class NewScheduleSerializer(ScheduleFieldsSerializer):
    """A schedule to create."""

    site = serializers.CharField(max_length=60, help_text="Slug or id of a site.")


class ScheduleChangesSerializer(ScheduleFieldsSerializer):
    """Changes of a schedule: what is left out stays. With another `kind`, the fields of the old one are emptied."""

    kind = serializers.ChoiceField(choices=KINDS, required=False)
    name = serializers.CharField(max_length=60, required=False)
    pipeline = serializers.CharField(max_length=50, required=False)
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)


class DueSerializer(ReasonSerializer):
    """One occurrence, or the schedule."""

    due_at = serializers.DateTimeField(required=False, help_text="Time of an occurrence, from `next`.")


class PauseSerializer(DueSerializer):
    """What to pause, and for how long."""

    until = serializers.DateTimeField(required=False, help_text="When the pause of the schedule ends by itself.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "due_at" in attrs and "until" in attrs:
            raise serializers.ValidationError("expected due_at (an occurrence) or until (the schedule), got both")
        return attrs


class RunNowSerializer(ReasonSerializer):
    """Whether to wait for an unfinished run of the site."""

    queue = serializers.BooleanField(
        default=False, help_text="Let the run wait behind an unfinished run of the site, instead of refusing it."
    )


class ResumeOccurrenceSerializer(DueSerializer, RunNowSerializer):
    """What to resume."""


class NextQuery(StrictSerializer):
    count = serializers.IntegerField(default=report.COMING, min_value=1, max_value=100)


class ComingSerializer(serializers.Serializer[Any]):
    """A time at which the schedule will start a run."""

    due_at = serializers.DateTimeField()
    local = serializers.CharField(help_text="The same time on the wall clock of the schedule's time zone.")
    outcome = serializers.ChoiceField(
        choices=["skipped", "paused"], allow_null=True, help_text="What somebody decided about it before."
    )
    reason = serializers.CharField()


class OccurrenceSerializer(serializers.Serializer[Any]):
    """A time at which the schedule was due, and what happened."""

    due_at = serializers.DateTimeField()
    outcome = serializers.ChoiceField(choices=ScheduleOccurrence.Outcome.choices)
    run = serializers.UUIDField(allow_null=True)
    reason = serializers.CharField()
    actor = serializers.CharField()
    decided_at = serializers.DateTimeField()


class ScheduleSerializer(serializers.Serializer[Any]):
    """A schedule."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    site = serializers.CharField()
    pipeline = serializers.CharField()
    in_words = serializers.CharField(help_text="`weekdays 08:00, Europe/Berlin`.")
    state = serializers.ChoiceField(choices=report.STATES)
    kind = serializers.ChoiceField(choices=KINDS)
    at = serializers.CharField(allow_null=True)
    weekdays = serializers.CharField()
    day_of_month = serializers.IntegerField(allow_null=True)
    cron = serializers.CharField()
    every_minutes = serializers.IntegerField(allow_null=True)
    time_zone = serializers.CharField()
    params = serializers.DictField()
    pacing = PacingField()
    item_count = serializers.IntegerField(allow_null=True, help_text="Items of its input; null if it takes none.")
    priority = serializers.IntegerField()
    is_enabled = serializers.BooleanField()
    catch_up = serializers.ChoiceField(choices=Schedule.CatchUp.values)
    skip_if_active = serializers.BooleanField()
    min_hours_between = serializers.FloatField()
    expires_at = serializers.DateTimeField(allow_null=True)
    next_due_at = serializers.DateTimeField(
        allow_null=True, help_text="When the schedule is due next; null if it expires before that, or is not due again."
    )
    next = ComingSerializer(many=True)
    last = OccurrenceSerializer(allow_null=True)
    paused_at = serializers.DateTimeField(allow_null=True)
    paused_by = serializers.CharField()
    pause_reason = serializers.CharField()
    paused_until = serializers.DateTimeField(allow_null=True)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
