"""Serializers of requests that refuse what they do not know."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields and query parameters that it does not declare, with a guess at what was meant."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            allowed = [name for name, field in self.fields.items() if not field.read_only]
            unknown = {name: [sentence(name, allowed)] for name in data if name not in allowed}
            if unknown:
                raise serializers.ValidationError(unknown)
        return super().to_internal_value(data)


def sentence(name: str, allowed: list[str]) -> str:
    """That ``name`` is not known, and what is."""
    near = get_close_matches(str(name), allowed, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"Unknown: expected one of {', '.join(allowed) or 'none'}.{hint}"
