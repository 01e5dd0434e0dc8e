"""Limits of resources that operators set for a while."""

from __future__ import annotations

from typing import Any

from pause_manager import scopes, workloads
from pause_manager.models import Resource
from pause_manager.overrides.kinds import OverrideKind, OverrideTargetUnknown
from pause_manager.resources import writer

NONE = "none"


class ResourceLimit(OverrideKind):
    """A column that claims count by: written over, and put back. A lower limit is reached as work ends."""

    targets = "the name of a resource"
    values = f"a whole number from 1 to {writer.MOST:,}, or {NONE}"

    def __init__(self, limit: str, title: str) -> None:
        self.name = f"resource_{limit}"
        self.title = title
        self._limit = limit

    def target(self, text: str) -> str:
        if not scopes.RESOURCE_NAME.fullmatch(text):
            raise self.invalid_target(text)
        return text

    def value(self, text: str) -> int | str:
        if text.lower() == NONE:
            return NONE
        if text.isascii() and text.isdecimal() and 1 <= int(text) <= writer.MOST:
            return int(text)
        raise self.invalid_value(text)

    def told(self, value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) else NONE

    def scope(self, target: str) -> str:
        return scopes.resource(target)

    def apply(self, target: str, value: Any) -> Any:
        if not (Resource.objects.filter(name=target).exists() or target in workloads.used_resources()):
            raise OverrideTargetUnknown(f"Cannot override the {self.title} {target}: nothing uses it.")
        had = writer.swap_limit(target, self._limit, _limit(value))
        assert had is not None
        return had[0]

    def restore(self, target: str, value: Any, previous: Any) -> str:
        if writer.swap_limit(target, self._limit, previous, only_if=(_limit(value),)) is not None:
            return f"the limit is {self.told(previous)} again"
        return "the limit was changed meanwhile, and stays so"


def _limit(value: int | str) -> int | None:
    return value if isinstance(value, int) else None


KINDS = (
    ResourceLimit("max_at_once", "limit at once of resource"),
    ResourceLimit("max_per_minute", "limit per minute of resource"),
)
"""What the app registers."""
