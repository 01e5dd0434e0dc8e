"""Serializers of requests that refuse what they do not know."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from django.http import QueryDict
from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields and parameters that it does not declare, with a guess at what was meant, and what comes twice."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            allowed = [name for name, field in self.fields.items() if not field.read_only]
            unknown = {name: [sentence(name, allowed)] for name in data if name not in allowed}
            if unknown:
                raise serializers.ValidationError(unknown)
        if isinstance(data, QueryDict):
            given = {name: values for name, values in data.lists() if self._is_repeated(name, values)}
            repeated = {name: [f"expected once, got {len(values)} of it."] for name, values in given.items()}
            if repeated:
                raise serializers.ValidationError(repeated)
        return super().to_internal_value(data)

    def _is_repeated(self, name: str, given: list[Any]) -> bool:
        return len(given) > 1 and not isinstance(self.fields[name], serializers.ListField)


REASON_LENGTH = 500
"""Characters of the longest reason."""


class ReasonSerializer(StrictSerializer):
    """Why somebody acts; kept with the event."""

    reason = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=REASON_LENGTH, help_text="Kept in the audit trail."
    )


def sentence(name: str, allowed: list[str]) -> str:
    """That ``name`` is not known, and what is."""
    near = get_close_matches(str(name), allowed, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"Unknown: expected one of {', '.join(allowed) or 'none'}.{hint}"
