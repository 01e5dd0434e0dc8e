"""Explanations as the API shows them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from pause_manager.reasons import ReasonCode

CODES = [code.value for code in ReasonCode]


class ReasonFiguresSerializer(serializers.Serializer[Any]):
    """One reason why something waits."""

    code = serializers.ChoiceField(choices=CODES, help_text="For machines; the page of errors says what each means.")
    sentence = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)
    actor = serializers.CharField(help_text="Who caused it.")
    lifted_by = serializers.CharField(help_text="What would end it.")
    figures = serializers.DictField(
        help_text="Figures behind the reason; for a hold its `scope`, `kind`, `mode` and `expires_at`."
    )


class LinePositionSerializer(serializers.Serializer[Any]):
    """A place in line."""

    may_start = serializers.BooleanField(help_text="Whether nothing keeps it.")
    position = serializers.IntegerField(
        allow_null=True, help_text="Position among what waits for the same; 1 is next. Null if it waits in no line."
    )
    expected_start = serializers.DateTimeField(
        allow_null=True, help_text="Expected start by measured rates; null if unknown."
    )


class WaitExplanationSerializer(LinePositionSerializer):
    """Every reason why something may not start, in a fixed order. If there is none, it may start."""

    reasons = ReasonFiguresSerializer(many=True)
