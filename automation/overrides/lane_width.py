"""How many runs of a lane are active at a time, for a while."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from automation.models import Lane, Site
from automation.models.lanes import MOST_WIDTH
from automation.runs import lanes
from pause_manager.overrides import OverrideKind, OverrideTargetUnknown


class LaneWidth(OverrideKind):
    """A column that those who give places read: written over, and put back.

    A smaller width interrupts no run: places are given again when fewer runs than that hold one.
    """

    name = "lane_width"
    title = "width of lane"
    targets = "the name of a lane, which is the slug of its site"
    values = f"a whole number from 1 to {MOST_WIDTH:,}"

    def value(self, text: str) -> int:
        if text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_WIDTH:
            return int(text)
        raise self.invalid_value(text)

    def scope(self, target: str) -> str:
        return f"lane:{target}"

    def apply(self, target: str, value: Any) -> int:
        if not (Lane.objects.filter(name=target).exists() or Site.objects.filter(slug=target).exists()):
            raise OverrideTargetUnknown(f"Cannot override the width of lane {target}: there is no such lane.")
        had = lanes.swap_width(target, value)
        assert had is not None
        return had

    def restore(self, target: str, value: Any, previous: Any) -> str:
        if lanes.swap_width(target, previous, only_if=value) is not None:
            return f"the width is {previous} again"
        return "the width was changed meanwhile, and stays so"

    def followed(self, target: str) -> None:
        transaction.on_commit(lambda: lanes.fill_each([target]), robust=True)
