"""Colors by name, as an image prompt names them."""

from __future__ import annotations

from typing import NamedTuple

from automation.contrib.content.providers.dice import Dice

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "teal": (17, 94, 99), "sand": (233, 213, 178), "coral": (240, 128, 104), "navy": (24, 42, 84),
    "sky": (142, 190, 226), "amber": (245, 176, 65), "forest": (27, 77, 62), "moss": (126, 153, 92),
    "cream": (247, 236, 212), "plum": (82, 38, 87), "rose": (214, 112, 138), "gold": (226, 178, 84),
    "slate": (52, 66, 86), "mint": (148, 206, 183), "apricot": (247, 178, 128), "indigo": (49, 46, 129),
    "lilac": (178, 160, 217), "peach": (250, 200, 170), "brick": (133, 57, 48), "clay": (201, 130, 98),
    "sage": (168, 184, 150), "ocean": (13, 77, 122), "aqua": (108, 194, 205), "lemon": (246, 222, 118),
}  # fmt: skip


class Palette(NamedTuple):
    """Deep for ground and text, middle for shapes, bright for accents."""

    deep: RGB
    middle: RGB
    bright: RGB


def palette_of(prompt: str, dice: Dice) -> Palette:
    """The first three colors that ``prompt`` names, dark to light; what it leaves open is thrown."""
    words = (word.strip(".,;:()“”\"'").lower() for word in prompt.split())
    named = list(dict.fromkeys(word for word in words if word in COLORS))[:3]
    named += [name for name in dice.shuffled(list(COLORS)) if name not in named][: 3 - len(named)]
    deep, middle, bright = sorted((COLORS[name] for name in named), key=lightness)
    if lightness(deep) > 95:
        deep = mixed(deep, (16, 22, 36), 0.6)
    return Palette(deep, middle, bright)


def lightness(color: RGB) -> float:
    """Perceived lightness, 0 to 255 (ITU-R BT.601 luma)."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def mixed(one: RGB, other: RGB, share: float) -> RGB:
    """``one`` with ``share`` (0 to 1) of ``other`` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
