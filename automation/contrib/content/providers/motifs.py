"""The motifs that the offline image provider can paint. All coordinates are shares of the canvas."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import ImageDraw

from automation.contrib.content.providers.dice import Dice
from automation.contrib.content.providers.palettes import RGB, Palette, mixed

Point = tuple[float, float]
Painter = Callable[["Canvas", Palette, Dice], None]


class Canvas:
    """A drawing surface measured from 0 to 1 in both directions."""

    def __init__(self, draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
        self._draw = draw
        self.width = width
        self.height = height

    def polygon(self, points: list[Point], color: RGB, alpha: int = 255) -> None:
        self._draw.polygon([(x * self.width, y * self.height) for x, y in points], fill=(*color, alpha))

    def disc(self, x: float, y: float, radius: float, color: RGB, alpha: int = 255) -> None:
        """``radius`` is a share of the height."""
        middle_x, middle_y, size = x * self.width, y * self.height, radius * self.height
        self._draw.ellipse((middle_x - size, middle_y - size, middle_x + size, middle_y + size), fill=(*color, alpha))

    def box(self, left: float, top: float, right: float, bottom: float, color: RGB, alpha: int = 255) -> None:
        area = (left * self.width, top * self.height, right * self.width, bottom * self.height)
        self._draw.rounded_rectangle(area, radius=0.012 * self.width, fill=(*color, alpha))


def crest(canvas: Canvas, base: float, height: float, color: RGB, dice: Dice, alpha: int = 255) -> None:
    """Fills everything under a line of three sine waves around ``base``."""
    phases = [dice.between(0, math.tau) for _ in range(3)]
    points = [
        (
            x,
            base
            - height * sum(math.sin(x * math.pi * (1.3 + 1.4 * n) + phase) / (n + 1) for n, phase in enumerate(phases)),
        )
        for x in (step / 120 for step in range(121))
    ]
    canvas.polygon([*points, (1, 1), (0, 1)], color, alpha)


def waves(canvas: Canvas, palette: Palette, dice: Dice) -> None:
    x, y = dice.between(0.62, 0.8), dice.between(0.4, 0.48)
    canvas.disc(x, y, 0.27, mixed(palette.bright, palette.middle, 0.45), 120)
    canvas.disc(x, y, 0.2, palette.bright)
    for layer in range(6):
        color = mixed(palette.middle, palette.deep, layer / 6)
        crest(canvas, 0.58 + 0.075 * layer, 0.022, color, dice, 235)


def circles(canvas: Canvas, palette: Palette, dice: Dice) -> None:
    colors = (palette.middle, palette.bright, mixed(palette.middle, palette.bright, 0.5))
    for number in range(9):
        canvas.disc(dice.between(0.5, 1.0), dice.between(0.1, 0.95), dice.between(0.1, 0.3), colors[number % 3], 105)


def bars(canvas: Canvas, palette: Palette, dice: Dice) -> None:
    count = 8
    for number in range(count):
        left = 0.46 + 0.52 * number / count
        top = 0.84 - 0.09 * number + dice.between(-0.04, 0.04)
        color = mixed(palette.middle, palette.bright, dice.between(0, 1))
        canvas.box(left, top, left + 0.052, 1.05, color, 240)
        canvas.box(left, top + 0.06, left + 0.052, top + 0.075, palette.deep, 120)


def grid(canvas: Canvas, palette: Palette, dice: Dice) -> None:
    for column in range(6):
        for row in range(6):
            left, top = 0.5 + column * 0.083, 0.05 + row * 0.155
            if dice.below(6) == 0:
                continue
            color = mixed(
                palette.middle, dice.pick((palette.bright, palette.deep, palette.middle)), dice.between(0.2, 0.9)
            )
            canvas.box(left, top, left + 0.073, top + 0.137, color, 235)
            if dice.below(4) == 0:
                canvas.disc(left + 0.0365, top + 0.0685, 0.04, palette.bright)


def ribbons(canvas: Canvas, palette: Palette, dice: Dice) -> None:
    for number in range(7):
        base = 0.15 + 0.12 * number
        phase, lift = dice.between(0, math.tau), dice.between(0.05, 0.1)
        color = mixed(mixed(palette.middle, palette.bright, number / 6), palette.deep, dice.between(0, 0.25))
        upper = [(0.4 + 0.6 * s / 60, base + lift * math.sin(s / 60 * 4 + phase)) for s in range(61)]
        lower = [(x, y + 0.1 * (x - 0.4)) for x, y in reversed(upper)]
        canvas.polygon([*upper, *lower], color, 215)


PAINTERS: dict[str, Painter] = {"ribbons": ribbons, "circles": circles, "grid": grid, "steps": bars, "waves": waves}


def painter_of(prompt: str, dice: Dice) -> Painter:
    """The painter of the first motif that ``prompt`` names, else any."""
    for word in prompt.lower().split():
        if found := PAINTERS.get(word.strip(".,;:()“”\"'")):
            return found
    return dice.pick(list(PAINTERS.values()))
