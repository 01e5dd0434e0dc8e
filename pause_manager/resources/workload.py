"""Resources as a workload: their rows are locked before holds on them change, and a wait that ends begins a probe."""

from __future__ import annotations

from collections.abc import Sequence

from pause_manager import scopes
from pause_manager.models import Hold
from pause_manager.resources import writer
from pause_manager.workloads import HoldChange, Workload


class Resources(Workload):
    """Registered before those whose work uses them."""

    def lock(self, scopes: Sequence[str]) -> None:
        if names := _named(scopes):
            writer.lock_all(names)

    def hold_changed(self, change: HoldChange) -> None:
        if change.what == "released" and change.kind == Hold.Kind.THROTTLED and (names := _named(change.scopes)):
            writer.begin_probe(names)


def _named(held: Sequence[str]) -> list[str]:
    return sorted(name for kind, name in map(scopes.parse, held) if kind == "resource")
