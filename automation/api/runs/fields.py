"""Fields of requests about runs: items, limits, priority, pacing and places in a lane."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from automation.pipeline import pacing
from automation.runs import dependencies


@extend_schema_field({"type": "array", "items": {"type": "object", "additionalProperties": True}})
class ItemsField(serializers.Field[Any, Any, Any, Any]):
    """JSON objects, of which there may be very many; the pipeline judges what is in them."""

    def to_internal_value(self, data: Any) -> list[dict[str, Any]]:
        if not isinstance(data, list):
            raise serializers.ValidationError(f"expected a list of objects, got: {type(data).__name__}")
        for number, item in enumerate(data, start=1):
            if not isinstance(item, dict):
                raise serializers.ValidationError(f"item {number:,}: expected an object, got: {item!r:.80}")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class TimeoutField(serializers.FloatField):
    """Working time; what the pipeline says if it is left out."""

    def __init__(self) -> None:
        super().__init__(
            required=False, help_text="It fails when it has worked for so long. Pauses and waiting do not count."
        )

    def to_internal_value(self, data: Any) -> float:
        seconds = super().to_internal_value(data) if not isinstance(data, bool) else 0.0
        if not 0 < seconds < float("inf"):
            raise serializers.ValidationError(f"expected seconds > 0, got: {data!r:.80}")
        return seconds


class PriorityField(serializers.IntegerField):
    """In its lane, and wherever runs wait for workers or room."""

    def __init__(self) -> None:
        super().__init__(default=3, min_value=1, max_value=5, help_text="1 is first, 5 last.")


class AfterField(serializers.ListField):
    """Runs that must have completed first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            child=serializers.UUIDField(),
            max_length=dependencies.MOST,
            help_text="Whole ids of runs of the same account; it starts once all of them have completed.",
            **options,
        )


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "batch_size": {"type": "integer", "minimum": 1, "maximum": pacing.MOST["batch_size"]},
            "batch_delay_seconds": {"type": "number", "minimum": 0, "maximum": pacing.LONGEST_SECONDS},
            "stage_delay_seconds": {"type": "number", "minimum": 0, "maximum": pacing.LONGEST_SECONDS},
            "max_items": {"type": "integer", "minimum": 1, "maximum": pacing.MOST["max_items"]},
            "stages": {
                "type": "object",
                "description": "By slug of a stage, the same members for it alone.",
                "additionalProperties": {"type": "object", "additionalProperties": {"type": "number"}},
            },
        },
        "additionalProperties": False,
    }
)
class PacingField(serializers.Field[Any, Any, Any, Any]):
    """Batches, delays and limits, which ``pipeline.pacing`` judges with the pipeline."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            help_text="Batches, delays and limits instead of those that the stages declare: items of a batch, seconds "
            "between batches, seconds between stages, most items of a stage.",
            **options,
        )

    def to_internal_value(self, data: Any) -> Any:
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "enum": ["front", "back"]},
            {"type": "object", "properties": {"before": {"type": "string"}}, "required": ["before"]},
        ]
    }
)
class MoveField(serializers.Field[Any, Any, Any, Any]):
    """``front``, ``back`` or ``{"before": id}``."""

    def to_internal_value(self, data: Any) -> str | dict[str, str]:
        if data in ("front", "back"):
            return str(data)
        if isinstance(data, dict) and data.keys() == {"before"} and isinstance(data["before"], str):
            return {"before": data["before"]}
        raise serializers.ValidationError(f'expected front, back or {{"before": id of a run}}, got: {data!r:.80}')

    def to_representation(self, value: Any) -> Any:
        return value
