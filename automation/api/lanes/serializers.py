"""Lanes, and what waits in them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.models import Lane
from automation.models.lanes import MOST_WIDTH
from pause_manager.api.http import pagination
from pause_manager.api.http.strict import ReasonSerializer
from pause_manager.api.reasons import ReasonFiguresSerializer

MOST_LANES = 20
MOST_RUNS = 50


class QueueQuery(pagination.PageQuery):
    """Which lanes, and how much of each."""

    lane = serializers.CharField(max_length=60, required=False, help_text="This lane only: the slug of its site.")
    runs = serializers.IntegerField(
        default=10,
        min_value=1,
        max_value=MOST_RUNS,
        help_text="Runs of a kind in each lane, at most.",
    )
    limit = serializers.IntegerField(default=10, min_value=1, max_value=MOST_LANES, help_text="Lanes a page at most.")


class LaneSerializer(serializers.ModelSerializer[Lane]):
    """A lane."""

    class Meta:
        model = Lane
        fields = ("name", "policy", "width", "created_at")
        extra_kwargs = {"created_at": {"allow_null": True, "help_text": "Null: no run has been created in it yet."}}


class ChangedLaneSerializer(LaneSerializer):
    """A lane that was changed."""

    started = serializers.IntegerField(read_only=True, help_text="Runs that got a place because of the change.")

    class Meta(LaneSerializer.Meta):
        fields = (*LaneSerializer.Meta.fields, "started")  # type: ignore[assignment]


class LaneChangeSerializer(ReasonSerializer):
    """Changes of a lane."""

    policy = serializers.ChoiceField(choices=Lane.Policy.choices, required=False)
    width = serializers.IntegerField(
        min_value=1,
        max_value=MOST_WIDTH,
        required=False,
        help_text="Runs at a time. A smaller one interrupts no run.",
    )


class LaneRunSerializer(serializers.Serializer[Any]):
    """A run in a lane."""

    run = serializers.UUIDField()
    pipeline = serializers.CharField()
    site = serializers.CharField()
    priority = serializers.IntegerField()
    lifecycle = serializers.CharField()
    created_at = serializers.DateTimeField()
    has_place = serializers.BooleanField(help_text="Whether it holds a place of the lane.")
    paused_at = serializers.DateTimeField(allow_null=True)


class WaitingRunSerializer(LaneRunSerializer):
    """A run that waits for a place."""

    position = serializers.IntegerField(help_text="Position among all that wait, including paused runs; 1 is next.")
    reason = ReasonFiguresSerializer(allow_null=True, help_text="The first of `reasons`; null: it is about to start.")
    reasons = ReasonFiguresSerializer(
        many=True, help_text="Everything that keeps the run from starting, in the order of the list of codes."
    )


class LaneQueueSerializer(serializers.Serializer[Any]):
    """What is in a lane now."""

    lane = serializers.CharField()
    policy = serializers.ChoiceField(choices=Lane.Policy.choices)
    width = serializers.IntegerField()
    active_task = LaneRunSerializer(allow_null=True, help_text="The run that has held a place the longest.")
    active = LaneRunSerializer(many=True, help_text="The runs that hold places.")
    waiting = WaitingRunSerializer(many=True, help_text="The runs that wait, in order, without paused ones.")
    waiting_count = serializers.IntegerField()
    paused = LaneRunSerializer(many=True)
    paused_count = serializers.IntegerField()
    frozen = serializers.BooleanField()
    frozen_reason = serializers.CharField(allow_null=True)
    frozen_at = serializers.DateTimeField(allow_null=True)
