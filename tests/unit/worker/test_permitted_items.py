"""How much a loop draws at once, where something limits its items."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from automation.items.leased_slice import LeasedSlice
from automation.leases.allowances import Permit
from automation.worker import permitted_items
from automation.worker.permitted_items import DrawSize, PermittedItems


class Counter:
    """Permits all, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.draws: list[int] = []

    def __call__(self, _work: LeasedSlice, wanted: int, /) -> Permit:
        self.draws.append(wanted)
        return Permit(wanted)

    def drawn(self, _work: LeasedSlice, /) -> int:
        return 0


def slice_of(items: int) -> tuple[LeasedSlice, Any]:
    return cast("LeasedSlice", SimpleNamespace(left=items)), iter([(str(number), None) for number in range(items)])


def test_short_items_need_few_draws_over_several_slices() -> None:
    draw, size = Counter(), DrawSize()
    for _ in range(10):
        work, pairs = slice_of(2_000)
        assert len(list(PermittedItems(draw, size, work, pairs, lambda: (False, None)))) == 2_000
    assert draw.draws[:3] == [1, 16, 256]
    assert len(draw.draws) == 3 + 10  # the start, and one a slice
    assert max(draw.draws) <= 2_000  # no more than a slice has


def test_long_items_are_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permitted_items, "DRAW_SECONDS", 0.01)
    draw = Counter()
    work, pairs = slice_of(5)
    for _ in PermittedItems(draw, DrawSize(), work, pairs, lambda: (False, None)):
        time.sleep(0.011)
    assert draw.draws == [1] * 5
