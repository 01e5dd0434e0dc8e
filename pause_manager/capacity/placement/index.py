"""A value for each node of a ledger, kept between looks: only what was touched in between is measured again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

Value = TypeVar("Value")


class NodeIndex(Generic[Value]):
    """``values`` by node, as of the last ``catch_up``; what has none is not in it.

    ``names`` are those of all nodes, and ``touched`` grows by a name whenever something about a node has changed.
    """

    def __init__(self, names: Collection[str], touched: Sequence[str]) -> None:
        self.values: dict[str, Value] = {}
        self._names = names
        self._touched = touched
        self._read: int | None = None

    def catch_up(self, measure: Callable[[str], Value | None]) -> list[str]:
        """Measure what was touched since the last time; the nodes that have another value now, or none any more."""
        read, self._read = self._read, len(self._touched)
        is_far_behind = read is None or self._read - read > len(self._names)
        changed = []
        for name in self._names if is_far_behind else set(self._touched[read:]):
            value = measure(name)
            if value == self.values.get(name):
                continue
            changed.append(name)
            if value is None:
                del self.values[name]
            else:
                self.values[name] = value
        return changed
