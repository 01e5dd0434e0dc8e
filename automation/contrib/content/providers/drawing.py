"""The offline image provider: paints a prompt's colors and motif with the title in it. Same prompt, same file."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from automation.contrib.content.providers.base import Picture
from automation.contrib.content.providers.dice import Dice
from automation.contrib.content.providers.motifs import Canvas, painter_of
from automation.contrib.content.providers.palettes import Palette, mixed, palette_of

WIDTH, HEIGHT = 1200, 630
SCALE = 2
"""Painted larger and reduced, which smooths every edge."""
MARGIN = 72
TITLE_WIDTH = 620
TITLE_HEIGHT = 360
FONT_SIZES = range(76, 33, -6)
WHITE = (255, 255, 255)


class OfflineImages:
    """The default image provider."""

    def draw(self, prompt: str, title: str) -> Picture:
        dice = Dice("drawing", prompt)
        palette = palette_of(prompt, dice)
        image = _ground(palette).resize((WIDTH * SCALE, HEIGHT * SCALE))
        canvas = Canvas(ImageDraw.Draw(image, "RGBA"), *image.size)
        painter_of(prompt, dice)(canvas, palette, dice)
        image = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        image = _shaded(image, palette)
        _set_title(image, title, palette)
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=4)
        return Picture(file.getvalue(), WIDTH, HEIGHT)


def _ground(palette: Palette) -> Image.Image:
    """A vertical gradient from deep to somewhat lighter."""
    mask = Image.linear_gradient("L")
    low = Image.new("RGB", mask.size, mixed(palette.deep, palette.middle, 0.45))
    return Image.composite(low, Image.new("RGB", mask.size, palette.deep), mask)


def _shaded(image: Image.Image, palette: Palette) -> Image.Image:
    """Darkens the left, where the title stands, so that it can be read on any motif."""
    mask = (
        Image.linear_gradient("L")
        .rotate(-90)
        .resize(image.size)
        .point([max(0, (level - 70) * 13 // 10) for level in range(256)])
    )
    return Image.composite(Image.new("RGB", image.size, mixed(palette.deep, (0, 0, 0), 0.35)), image, mask)


def _set_title(image: Image.Image, title: str, palette: Palette) -> None:
    draw = ImageDraw.Draw(image)
    for size in FONT_SIZES:
        font = _font(size)
        lines = wrapped(title, font, TITLE_WIDTH)
        height = len(lines) * size * 1.22
        if height <= TITLE_HEIGHT and all(font.getlength(line) <= TITLE_WIDTH for line in lines):
            break
    top = (HEIGHT - height) / 2
    draw.rectangle((MARGIN, top - 44, MARGIN + 84, top - 36), fill=palette.bright)
    for number, line in enumerate(lines):
        at = (MARGIN, top + number * size * 1.22)
        draw.text(at, line, font=font, fill=WHITE, stroke_width=size / 60, stroke_fill=WHITE)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Cannot set titles: this Pillow was built without FreeType; install it from its wheel.")
    return font


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """``text`` in lines of at most ``width`` pixels; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split() or [""]:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
