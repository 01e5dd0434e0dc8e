"""Progress, stages, reasons and work in flight."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.reports.status import ALL as STATUSES
from pause_manager.api.reasons import LinePositionSerializer, ReasonFiguresSerializer


class CountsSerializer(serializers.Serializer[Any]):
    """``processed_items + failed_items + remaining_count = total_items``."""

    total_items = serializers.IntegerField(help_text="Fixed when the run was created or the stage started.")
    processed_items = serializers.IntegerField()
    failed_items = serializers.IntegerField()
    remaining_count = serializers.IntegerField()
    percentage = serializers.FloatField(help_text="0 to 100, of items processed or failed; never falls.")
    items_per_second = serializers.FloatField(
        allow_null=True, help_text="Items per second of working time; pauses do not count."
    )
    eta_seconds = serializers.FloatField(
        allow_null=True, help_text="Estimated seconds of working time left; null while unknown."
    )


class StageProgressSerializer(CountsSerializer):
    """One stage."""

    slug = serializers.CharField()
    title = serializers.CharField()
    status = serializers.ChoiceField(choices=STATUSES)
    left_out_items = serializers.IntegerField(help_text="Items beyond `max_items`, which the stage leaves out.")


class InFlightSerializer(serializers.Serializer[Any]):
    """A worker and the item it is on."""

    worker = serializers.CharField()
    node = serializers.CharField()
    stage = serializers.CharField()
    slice = serializers.IntegerField()
    item = serializers.CharField(allow_null=True, help_text="Key of the item; `prepare` or `finish` for a hook.")
    since = serializers.DateTimeField(help_text="When it took the slice.")
    item_since = serializers.DateTimeField(
        allow_null=True, help_text="Since when the worker has been on the item; null during the first moments."
    )
    item_limit = serializers.FloatField(allow_null=True, help_text="Seconds after which it is ended; null: no limit.")


class DurationsSerializer(serializers.Serializer[Any]):
    """Seconds since the run's start."""

    total_seconds = serializers.FloatField(help_text="By the clock.")
    active_seconds = serializers.FloatField(help_text="Without the pauses.")


class ProgressSerializer(serializers.Serializer[Any]):
    """How far a run is. ``overall`` counts items of the run's input; every stage weighs the same."""

    status = serializers.ChoiceField(choices=STATUSES)
    overall = CountsSerializer()
    stages = StageProgressSerializer(many=True)
    in_flight = InFlightSerializer(many=True)
    durations = DurationsSerializer()


class WillStartSerializer(serializers.Serializer[Any]):
    """Items that start when nothing keeps the run."""

    stage = serializers.CharField()
    title = serializers.CharField()
    items = serializers.IntegerField(help_text="Number of items that are neither done nor in progress.")


class ExplanationSerializer(LinePositionSerializer):
    """Every reason why the run may not proceed, the most general first. If there is none, it may proceed."""

    status = serializers.ChoiceField(choices=STATUSES)
    may_proceed = serializers.BooleanField()
    reasons = ReasonFiguresSerializer(many=True)
    will_start = WillStartSerializer(many=True)
