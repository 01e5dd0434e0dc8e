"""Small charts as SVG, computed on the server: stacked bars, and lines over time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 100.0
"""Of every chart, in its own units; it is stretched to the room that it has."""
HEIGHT = 30.0
"""Of a chart over time."""


@dataclass(frozen=True)
class Part:
    """One part of a bar: ``kind`` is its class in the style sheet, ``amount`` its figure in words."""

    kind: str
    amount: str
    x: float
    width: float


@dataclass(frozen=True)
class Bar:
    """One stacked bar. ``mark``: where a line stands across it; ``None`` without one."""

    title: str
    parts: tuple[Part, ...]
    free: str
    """What is left, in words."""
    mark: float | None = None
    mark_title: str = ""
    problem: str = ""
    """In words, in place of the bar; empty if there is none."""
    note: str = ""

    @property
    def words(self) -> str:
        """The whole bar as text, for who cannot see it."""
        return ", ".join([*(f"{part.amount} {part.kind}" for part in self.parts), self.free])


def stacked(total: float, amounts: Iterable[tuple[str, float, str]]) -> tuple[Part, ...]:
    """Return the parts of a bar of ``total``, of (kind, amount, amount in words); what is over is cut off."""
    parts, x = [], 0.0
    for kind, amount, words in amounts:
        width = min(WIDTH - x, WIDTH * max(0.0, amount) / total) if total > 0 else 0.0
        parts.append(Part(kind, words, round(x, 2), round(width, 2)))
        x += width
    return tuple(parts)


def area(points: Sequence[tuple[float, float]], top: float) -> str:
    """Return the path of the area under ``points``, of (x from 0 to 1, value); ``top`` is the value at the top."""
    if len(points) < 2 or top <= 0:
        return ""
    placed = [(x * WIDTH, HEIGHT * (1 - min(1.0, max(0.0, y) / top))) for x, y in points]
    line = " L".join(f"{x:.2f},{y:.2f}" for x, y in placed)
    return f"M{placed[0][0]:.2f},{HEIGHT:g} L{line} L{placed[-1][0]:.2f},{HEIGHT:g} Z"
