"""The kinds of article that the offline writer proposes for a topic, and which sections each has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Angle:
    """``{topic}`` is the topic as a headline in ``titles`` and inside a sentence in ``summaries``."""

    slug: str
    titles: Sequence[str]
    summaries: Sequence[str]
    sections: Sequence[str]
    """Kinds of section, most important first; a short article takes the first few."""
    least_places: int = 0


GUIDE = Angle(
    "guide",
    (
        "{topic}: A Plain Guide",
        "Understanding {topic}",
        "{topic} From Start to Finish",
        "A Clear Introduction to {topic}",
    ),
    (
        "What to know about {topic} before you start, in the order in which you will need it.",
        "The essentials of {topic}: the main points, how to go about it, and where people lose time.",
    ),
    ("overview", "steps", "prepare", "mistakes", "sources", "compare", "places"),
)
CHECKLIST = Angle(
    "checklist",
    ("{topic}: A Checklist Before You Begin", "Getting Ready for {topic}", "{topic}: What to Have at Hand"),
    (
        "The papers, numbers and decisions to have ready for {topic}, and the steps that follow.",
        "A short list to work through, so that nothing about {topic} has to be done twice.",
    ),
    ("prepare", "steps", "mistakes", "overview", "sources", "places", "compare"),
)
QUESTIONS = Angle(
    "questions",
    ("{topic}: Questions People Ask", "What People Want to Know About {topic}", "{topic}, Question by Question"),
    (
        "What people type into a search box about {topic}, and what they are looking for behind it.",
        "The questions that come up again and again about {topic}, answered one by one.",
    ),
    ("searches", "overview", "sources", "steps", "compare", "mistakes", "places"),
)
MISTAKES = Angle(
    "mistakes",
    ("{topic}: Mistakes to Avoid", "What Goes Wrong With {topic}", "{topic} Without the Usual Trouble"),
    (
        "The mistakes that cost people most with {topic}, and what to do in their place.",
        "Where things tend to go wrong with {topic}, why, and how to notice in time.",
    ),
    ("mistakes", "overview", "prepare", "compare", "steps", "sources", "places"),
)
PLACES = Angle(
    "places",
    ("{topic} by Place: What Changes", "{topic}: What Differs From State to State", "{topic}, Place by Place"),
    (
        "What is the same everywhere about {topic}, what is not, and how to find the rule that counts for you.",
        "How the rules on {topic} differ from one place to the next, and how to find the office that decides.",
    ),
    ("places", "overview", "sources", "steps", "compare", "prepare", "mistakes"),
    least_places=3,
)
COMPARE = Angle(
    "compare",
    ("{topic}: How to Compare Your Options", "Making a Good Choice About {topic}", "{topic}: What to Weigh Up"),
    (
        "How to choose when it comes to {topic}: the questions to ask and the costs that are easy to miss.",
        "A calm way to decide about {topic}, with the questions that bring out the differences.",
    ),
    ("compare", "overview", "prepare", "mistakes", "steps", "sources", "places"),
)
BEGINNERS = Angle(
    "beginners",
    ("First Steps With {topic}", "{topic} for Beginners", "New to {topic}? Start Here"),
    (
        "A first look at {topic} for readers without any background, with a way to begin this week.",
        "Where to start with {topic} if all of it is new to you.",
    ),
    ("overview", "prepare", "steps", "sources", "mistakes", "compare", "places"),
)
ANGLES = (GUIDE, PLACES, CHECKLIST, QUESTIONS, MISTAKES, COMPARE, BEGINNERS)
BY_SLUG = {angle.slug: angle for angle in ANGLES}
