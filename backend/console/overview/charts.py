"""Charts of the last hour as SVG, made here. Pure: samples in, shapes out.

A chart is a hundred wide and high as stretched by the page; each minute is one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from django.utils.safestring import SafeString

MINUTES = 60
MOST_LAYERS = 6
"""More causes than these are one layer, "other"."""
OTHER = "other"
WIDTH, HEIGHT = 600.0, 100.0


@dataclass(frozen=True)
class Layer:
    """One cause: its name, the path of its area, and its figures for the table."""

    name: str
    index: int
    path: str
    now: int
    most: int


@dataclass(frozen=True)
class Area:
    """A stacked area: the layers from the bottom, the top of the scale, the rows of the table."""

    layers: list[Layer]
    top: int
    rows: list[tuple[datetime, list[int | None]]]

    @property
    def is_empty(self) -> bool:
        return not self.layers

    @property
    def latest_first(self) -> list[tuple[datetime, list[int | None]]]:
        return self.rows[::-1]


@dataclass(frozen=True)
class Column:
    """One minute: the box of what was done, and that of what failed on top of it."""

    minute: datetime
    x: float
    done: int | None
    failed: int | None
    y: float
    height: float
    failed_y: float
    failed_height: float

    def shapes(self, width: float) -> str:
        """Both boxes as SVG, without those of no height."""
        boxes = (("done", self.y, self.height), ("failed", self.failed_y, self.failed_height))
        return "".join(
            f'<rect class="{kind}" x="{self.x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}"/>'
            for kind, y, height in boxes
            if height
        )


@dataclass(frozen=True)
class Columns:
    """Items per minute."""

    columns: list[Column]
    top: int
    width: float

    @property
    def latest(self) -> int | None:
        """The last minute that was looked at."""
        return next((one.done for one in reversed(self.columns) if one.done is not None), None)

    @property
    def total(self) -> int:
        return sum(one.done or 0 for one in self.columns)

    @property
    def failed(self) -> int:
        return sum(one.failed or 0 for one in self.columns)

    @property
    def is_empty(self) -> bool:
        return not self.total and not self.failed

    @property
    def shapes(self) -> SafeString:
        """The chart as SVG."""
        return SafeString("".join(one.shapes(self.width) for one in self.columns))

    @property
    def latest_first(self) -> list[tuple[datetime, tuple[int | None, int | None]]]:
        """The rows of the table."""
        return [(one.minute, (one.done, one.failed)) for one in reversed(self.columns)]


def minutes_until(now: datetime) -> list[datetime]:
    """The last hour's minutes, the oldest first."""
    end = now.replace(second=0, microsecond=0)
    return [end - timedelta(minutes=back) for back in range(MINUTES - 1, -1, -1)]


def area(samples: Mapping[tuple[datetime, str], int], seen: set[datetime], minutes: Sequence[datetime]) -> Area:
    """Stack what waited by cause, the most lasting at the bottom. A minute that is not ``seen`` is a gap."""
    sums: dict[str, int] = {}
    for (_, cause), count in samples.items():
        sums[cause] = sums.get(cause, 0) + count
    ordered = sorted(sums, key=lambda cause: (-sums[cause], cause))
    shown, rest = ordered[:MOST_LAYERS], ordered[MOST_LAYERS:]
    names = [*shown, OTHER] if rest else shown
    series = {
        name: [
            sum(samples.get((minute, cause), 0) for cause in (rest if name == OTHER and rest else [name]))
            for minute in minutes
        ]
        for name in names
    }
    is_seen = [minute in seen for minute in minutes]
    totals = [sum(series[name][step] for name in names) for step in range(len(minutes))]
    top = nice(max(totals, default=0))
    # The minute that has just begun may not have been looked at yet.
    newest = next((step for step in range(-1, -min(4, len(minutes) + 1), -1) if is_seen[step]), -1)
    base, layers = [0] * len(minutes), []
    for index, name in enumerate(names):
        upper = [low + more for low, more in zip(base, series[name], strict=True)]
        shape = _path(base, upper, is_seen, top)
        layers.append(Layer(name, index, shape, series[name][newest], max(series[name])))
        base = upper
    rows = [
        (minute, [series[name][step] if is_seen[step] else None for name in names])
        for step, minute in enumerate(minutes)
    ]
    return Area(layers, top, rows)


def _path(lower: Sequence[int], upper: Sequence[int], is_seen: Sequence[bool], top: int) -> str:
    """One closed shape for each stretch of minutes that were looked at; a minute is as wide as a step."""
    step = WIDTH / len(is_seen)
    shapes = []
    for seen, numbers in groupby(range(len(is_seen)), key=lambda number: is_seen[number]):
        stretch = list(numbers)
        if not seen:
            continue
        there = [(edge, upper[number]) for number in stretch for edge in (number * step, (number + 1) * step)]
        back = [(edge, lower[number]) for number in stretch for edge in (number * step, (number + 1) * step)]
        points = [f"{x:.1f} {HEIGHT - HEIGHT * value / top:.2f}" for x, value in [*there, *reversed(back)]]
        shapes.append(f"M{' L'.join(points)} Z")
    return " ".join(shapes)


def columns(done: Sequence[tuple[datetime, float | None]], failed: Sequence[tuple[datetime, float | None]]) -> Columns:
    """A column for each minute; the minutes of both are the same."""
    top = nice(round(max([(good or 0) + (bad or 0) for (_, good), (_, bad) in zip(done, failed, strict=True)] or [0])))
    step = WIDTH / max(1, len(done))
    shapes = []
    for number, ((minute, good), (_, bad)) in enumerate(zip(done, failed, strict=True)):
        tall, red = HEIGHT * (good or 0) / top, HEIGHT * (bad or 0) / top
        counts = (None if good is None else round(good), None if bad is None else round(bad))
        at = round(number * step, 1)
        shapes.append(
            Column(minute, at, *counts, round(HEIGHT - tall, 2), round(tall, 2), round(HEIGHT - tall - red, 2), red)
        )
    return Columns(shapes, top, round(step - 1.5, 1))


def nice(most: int) -> int:
    """The top of a scale: 1, 2 or 5 times a power of ten, at least ``most`` and at least 1."""
    size = 1
    while True:
        for step in (1, 2, 5):
            if step * size >= most:
                return step * size
        size *= 10
