"""The offline writer: needs no network and no model, and writes the same for the same arguments.

It composes general advice on the theme of the keywords. It knows no facts about one place, product or person, and says
none. What it has to say ends near 1,100 words.
"""

from __future__ import annotations

from collections.abc import Sequence

from automation.pipelines.content.language import in_sentence, listed, places_of, sentence
from automation.pipelines.content.providers.angles import ANGLES, BY_SLUG, GUIDE
from automation.pipelines.content.providers.base import Article, Brief, Idea, Section
from automation.pipelines.content.providers.composing import BUILDERS, Material, quoted
from automation.pipelines.content.providers.dice import Dice
from automation.pipelines.content.providers.themes import theme_of

WORDS_A_MINUTE = 230
MOST_TITLES = 4
"""An angle has no more titles than that."""
STYLES = ("flat editorial illustration", "cut-paper collage", "screen print with grain", "minimal poster")
LIGHTS = ("morning light", "evening light", "clear midday light", "soft overcast light")
PALETTES = (
    "teal, sand and coral", "navy, sky and amber", "forest, moss and cream", "plum, rose and gold",
    "slate, mint and apricot", "indigo, lilac and peach", "brick, clay and sage", "ocean, aqua and lemon",
)  # fmt: skip


class OfflineText:
    """The default provider of texts."""

    def ideas(self, topic: str, keywords: Sequence[str], count: int) -> Sequence[Idea]:
        dice = Dice("ideas", topic, *keywords)
        theme = theme_of(topic, keywords)
        angles = [angle for angle in ANGLES if len(places_of(keywords)) >= angle.least_places]
        ideas: dict[str, Idea] = {}
        for angle in [angles[0], *dice.shuffled(angles[1:]), *angles * MOST_TITLES]:
            titles = [title.format(topic=topic) for title in theme.titles.get(angle.slug, angle.titles)]
            free = [title for title in titles if title not in ideas]
            if free and len(ideas) < count:
                summary = dice.pick(theme.summaries.get(angle.slug, angle.summaries)).format(topic=in_sentence(topic))
                title = dice.pick(free)
                ideas[title] = Idea(title, angle.slug, summary)
        return list(ideas.values())

    def article(self, brief: Brief) -> Article:
        dice = Dice("article", brief.title, *brief.keywords)
        theme = theme_of(brief.topic, brief.keywords)
        material = Material.of(brief, theme, dice)
        kinds = BY_SLUG.get(brief.angle, GUIDE).sections[: brief.sections]
        return Article(
            title=brief.title,
            summary=brief.summary,
            introduction=_introduction(material),
            sections=[BUILDERS[kind](material) for kind in kinds],
            questions=[Section(question, answer) for question, answer in dice.some(theme.faq, brief.questions)],
            conclusion=_conclusion(material),
        )

    def image_prompt(self, title: str, summary: str, number: int) -> str:
        dice = Dice("picture", title, number)
        style, light, palette = dice.pick(STYLES), dice.pick(LIGHTS), dice.pick(PALETTES)
        motif = theme_of(title, [summary]).motif
        return (
            f"{sentence(style)} for an article called “{title}”: {motif} in {light}, in {palette}."
            " Calm composition with room for a headline, no people."
        )


def _introduction(it: Material) -> str:
    shown = [quoted(keyword) for keyword in it.brief.keywords[:2]]
    opening = it.say(
        f"If you have searched for {listed(shown, 'or')}, this page is for you.",
        f"Every day people search for {listed(shown, 'or')} and find more pages than answers.",
        f"Behind searches like {listed(shown)} there is usually a plain question and little time.",
    )
    middle = it.say(
        "It is written for {audience}.",
        "It is meant for {audience}, and for those who help them.",
        "Its readers are {audience} and everyone who wants to be prepared.",
    )
    closing = it.say(
        "It goes from the general to the particular, and you can stop as soon as you know enough.",
        "Each section stands on its own, so feel free to begin with the one you need.",
        "There is nothing to sign up for here, and nothing to buy.",
    )
    minutes = max(2, round(it.brief.words / WORDS_A_MINUTE))
    return f"{opening} {middle}\n\nIt takes about {minutes} minutes to read. {closing}"


def _conclusion(it: Material) -> str:
    opening = it.say(
        "None of this has to be done in one day.",
        "That is a good deal to remember, but you do not have to remember it: come back to the section you need.",
        "With {topic}, as with most things, the first step is the one that counts.",
    )
    middle = it.say(
        "Begin with what has a date attached to it, and leave the rest for a quiet hour.",
        "Choose one item from the list above and do it this week.",
        "Write down the one question that is still open, and ask it where an answer is binding.",
    )
    closing = it.say(
        "This page gives general information. Before a decision that matters, ask the office or the expert concerned.",
        "Details change, so confirm dates and amounts at the source before you rely on them.",
    )
    return f"{opening} {middle}\n\n{closing}"
