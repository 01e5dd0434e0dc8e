"""The fields of a cron expression as sets of numbers: ``*``, ``5``, ``1-5``, ``*/15``, ``8,20``, as Celery has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PART = re.compile(r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]+))?")
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}


@dataclass(frozen=True)
class Field:
    """One field: its name for people, its first and last number, and names that stand for numbers."""

    name: str
    least: int
    most: int
    names: Mapping[str, int]

    def parse(self, text: str) -> frozenset[int]:
        """Return the numbers that ``text`` stands for. Raises ``ValueError`` with what is allowed."""
        found: set[int] = set()
        for part in text.lower().split(","):
            match = _PART.fullmatch(part)
            if match is None or (match["step"] and not match["all"] and not match["last"]):
                raise ValueError(f"{self.name}: expected *, 5, 1-5, */15 or a list of these, got: {part!r}")
            step = int(match["step"] or 1)
            if not 1 <= step <= self.most:
                raise ValueError(f"{self.name}: expected a step from 1 to {self.most}, got: {part!r}")
            found.update(self._range(match)[::step])
        return frozenset(found)

    def _range(self, match: re.Match[str]) -> list[int]:
        if match["all"]:
            return list(range(self.least, self.most + 1))
        first = self._number(match["first"])
        if match["last"] is None:
            return [first]
        last = self._number(match["last"])
        if first <= last:
            return list(range(first, last + 1))
        # Over the end, as in fri-mon.
        return [*range(first, self.most + 1), *range(self.least, last + 1)]

    def _number(self, text: str) -> int:
        if text[:3] in self.names and not text.isdecimal():
            return self.names[text[:3]]
        if text.isascii() and text.isdecimal():
            number = int(text)
            if self.names is _DAYS and number == 7:
                return 0  # Sunday, in most dialects of cron
            if self.least <= number <= self.most:
                return number
        also = f" or {', '.join(self.names)}" if self.names else ""
        raise ValueError(f"{self.name}: expected {self.least} to {self.most}{also}, got: {text!r}")


MINUTE = Field("minute", 0, 59, {})
HOUR = Field("hour", 0, 23, {})
DAY_OF_MONTH = Field("day of month", 1, 31, {})
MONTH = Field("month", 1, 12, _MONTHS)
WEEKDAY = Field("weekday", 0, 6, _DAYS)
FIELDS = (MINUTE, HOUR, DAY_OF_MONTH, MONTH, WEEKDAY)


def parse(expression: str) -> tuple[frozenset[int], ...]:
    """Return minutes, hours, days of the month, months and weekdays (0 is Sunday). Raises ``ValueError``."""
    texts = expression.split()
    if len(texts) != len(FIELDS):
        raise ValueError(f"expected five fields (minute hour day-of-month month weekday), got {len(texts)}")
    return tuple(field.parse(text) for field, text in zip(FIELDS, texts, strict=True))
