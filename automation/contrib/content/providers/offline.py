"""The offline writer: needs no network and no model, and writes the same for the same arguments.

It knows nothing of the world. What it writes is derived from the searches of the group, so that all of it is true of
them, and it says that it is a demo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from automation.contrib.content.language import in_sentence, sentence
from automation.contrib.content.providers.angles import ANGLES, BY_SLUG
from automation.contrib.content.providers.base import Article, Brief, Idea
from automation.contrib.content.providers.dice import Dice
from automation.contrib.content.providers.searches import Searches

NOTE = "Demo text, made from the search terms alone by Slackwater's offline writer. Not for publication."
STYLES = ("flat editorial illustration", "cut-paper collage", "screen print with grain", "minimal poster")
LIGHTS = ("morning light", "evening light", "clear midday light", "soft overcast light")
PALETTES = (
    "teal, sand and coral", "navy, sky and amber", "forest, moss and cream", "plum, rose and gold",
    "slate, mint and apricot", "indigo, lilac and peach", "brick, clay and sage", "ocean, aqua and lemon",
)  # fmt: skip
MOTIFS = ("folded ribbons", "overlapping circles", "paper grid", "rising steps", "layered waves")
"""None of them says what a topic is about, which the writer does not know."""


class OfflineText:
    """The default provider of texts."""

    def ideas(
        self, topic: str, keywords: Sequence[str], count: int, volumes: Mapping[str, int] | None = None
    ) -> Sequence[Idea]:
        """One for each angle that the searches have something for, ``count`` at most."""
        searches = Searches(topic, keywords, volumes or {})
        first, *others = ANGLES
        fitting = [first, *(angle for angle in Dice("ideas", topic).shuffled(others) if angle.fits(searches))]
        return [
            Idea(angle.title.format(topic=topic), angle.slug, angle.summary.format(topic=in_sentence(topic)))
            for angle in fitting[:count]
        ]

    def article(self, brief: Brief) -> Article:
        introduction, sections, conclusion = BY_SLUG[brief.angle].write(
            Searches(brief.topic, brief.keywords, brief.volumes, brief.size)
        )
        return Article(
            title=brief.title,
            summary=brief.summary,
            introduction=introduction,
            sections=sections,
            questions=(),
            conclusion=conclusion,
            note=NOTE,
        )

    def image_prompt(self, title: str, summary: str, number: int) -> str:
        dice = Dice("picture", title, number)
        style, light, palette = dice.pick(STYLES), dice.pick(LIGHTS), dice.pick(PALETTES)
        return (
            f"{sentence(style)} for an article called “{title}”: {dice.pick(MOTIFS)} in {light}, in {palette}."
            " Calm composition with room for a headline, no people."
        )
