"""Why a run may not proceed, and what would start if it might."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.gate import CODES
from automation.reports.status import ALL as STATUSES


class ReasonOfWaitSerializer(serializers.Serializer[Any]):
    """One reason."""

    code = serializers.ChoiceField(choices=CODES)
    sentence = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)
    actor = serializers.CharField(help_text="Who caused it.")
    lifted_by = serializers.CharField(help_text="What would end it.")


class WillStartSerializer(serializers.Serializer[Any]):
    """Items that start when nothing keeps the run."""

    stage = serializers.CharField()
    title = serializers.CharField()
    items = serializers.IntegerField(help_text="Not done and not at work.")


class ExplanationSerializer(serializers.Serializer[Any]):
    """Every reason why the run may not proceed, in a fixed order; none means that it may."""

    status = serializers.ChoiceField(choices=STATUSES)
    may_proceed = serializers.BooleanField()
    reasons = ReasonOfWaitSerializer(many=True)
    will_start = WillStartSerializer(many=True)
