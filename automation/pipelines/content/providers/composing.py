"""Builds the sections of an article out of a theme's sentences and the searches that people really make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automation.pipelines.content.language import in_sentence, listed, places_of
from automation.pipelines.content.providers.base import Brief, Section
from automation.pipelines.content.providers.dice import Dice
from automation.pipelines.content.providers.themes import Theme

MOST_PLACES = 5


@dataclass(frozen=True)
class Material:
    """All that a section is made from."""

    brief: Brief
    theme: Theme
    dice: Dice
    unsaid: list[str]
    """Sentences of the theme's overview that the article has not used yet."""

    @classmethod
    def of(cls, brief: Brief, theme: Theme, dice: Dice) -> Material:
        return cls(brief, theme, dice, dice.shuffled(theme.overview))

    @property
    def topic(self) -> str:
        return in_sentence(self.brief.topic)

    @property
    def places(self) -> list[str]:
        return places_of(self.brief.keywords)[:MOST_PLACES]

    def say(self, *options: str) -> str:
        """One of ``options``, with ``{topic}``, ``{Topic}``, ``{search}`` and ``{audience}`` filled in."""
        return self.dice.pick(options).format(
            topic=self.topic,
            Topic=self.brief.topic,
            search=quoted(self.brief.keywords[self.dice.below(min(3, len(self.brief.keywords)))]),
            audience=self.dice.pick(self.theme.audience),
        )

    def facts(self, count: int) -> str:
        """Up to ``count`` sentences that the article has not said yet."""
        said = [self.unsaid.pop() for _ in range(min(count, len(self.unsaid)))]
        return " ".join(said)


def quoted(keyword: str) -> str:
    return f"“{keyword}”"


def numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def bulleted(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def overview(it: Material) -> Section:
    opening = it.say(
        "People come to {topic} with very different questions, and a search such as {search} is only one of them.",
        "A search such as {search} looks simple, but there is usually a decision behind it.",
        "Much has been written about {topic}, and most of it answers a question that is slightly different from yours.",
        "Before the details, it helps to see how the parts of {topic} belong together.",
    )
    closing = it.say(
        "Keep that in mind for the rest of this page.",
        "If only one thing stays with you, let it be that.",
        "The sections below take up these points one at a time.",
        "What follows is written for {audience}, but others will find their way too.",
    )
    heading = it.say(
        "What to Know About {Topic}", "The Short Version", "The Background in Brief", "What Lies Behind {Topic}"
    )
    return Section(heading, f"{opening} {it.facts(2)}\n\n{it.facts(2)} {closing}")


def steps(it: Material) -> Section:
    opening = it.say(
        "There is an order that saves work, because each step gives you something that the next one asks for.",
        "Taken one after the other, none of these steps is difficult.",
        "This is the way that tends to work, whether you have an afternoon or a month.",
        "Start at the top and do not skip ahead; most trouble comes from doing the fourth step first.",
    )
    closing = it.say(
        "If you get stuck, note where. It is usually a missing paper, and that can be asked for.",
        "Set a date for the next step before you put the papers away.",
        "When the list is done, go through it once more with fresh eyes the next day.",
    )
    heading = it.say("Step by Step", "How to Go About It", "A Good Order of Work", "What to Do First, and Then")
    return Section(heading, f"{opening}\n\n{numbered(it.dice.some(it.theme.steps, 5))}\n\n{closing}")


def prepare(it: Material) -> Section:
    opening = it.say(
        "A quarter of an hour of preparation saves a second visit. Have these at hand:",
        "Most delays with {topic} have a dull cause: something was missing. This list covers the usual cases:",
        "Put the following on the table before you begin:",
    )
    closing = it.say(
        "You may not need all of it, but each item on the list has sent somebody home again.",
        "Copies are enough in nearly every case; keep the originals.",
        "A photograph of each paper on your phone is a good second copy.",
    )
    heading = it.say("What to Have Ready", "Before You Begin", "A Short List", "What You Will Be Asked For")
    return Section(heading, f"{opening}\n\n{bulleted(it.dice.some(it.theme.prepare, 5))}\n\n{closing}")


def mistakes(it: Material) -> Section:
    opening = it.say(
        "The same few mistakes come up again and again, and all of them can be avoided.",
        "Nobody makes these mistakes on purpose; they happen in a hurry.",
        "If something goes wrong with {topic}, it is usually one of these.",
    )
    closing = it.say(
        "None of this takes long to get right, as long as it is done in time.",
        "If one of these has already happened, say so early: it is easier to put right than to explain later.",
        "A second pair of eyes finds most of them in five minutes.",
    )
    heading = it.say("Mistakes That Cost Time", "Where It Tends to Go Wrong", "What to Avoid", "Easy to Get Wrong")
    return Section(heading, f"{opening}\n\n{bulleted(it.dice.shuffled(it.theme.mistakes)[:3])}\n\n{closing}")


def compare(it: Material) -> Section:
    opening = it.say(
        "Two options that look alike often differ in one of these points. Ask about each before you decide:",
        "A choice becomes easier when the same questions are put to every option:",
        "Price is where most comparisons begin, and it should not be where they end:",
    )
    rows = "\n".join(f"| {question} | {why} |" for question, why in it.dice.shuffled(it.theme.compare))
    closing = it.say(
        "Write the answers side by side. What you would tell a friend to choose is usually right for you as well.",
        "If two options still come out even, take the one that is easier to change later.",
        "An option that cannot answer one of these questions has answered it.",
    )
    heading = it.say("How to Compare", "Questions That Show the Difference", "Weighing It Up", "What to Ask")
    return Section(heading, f"{opening}\n\n| Ask | Why it matters |\n| --- | --- |\n{rows}\n\n{closing}")


def places(it: Material) -> Section:
    heading = it.say("What Changes From Place to Place", "Where You Are Makes a Difference", "Rules Near You")
    named = it.places
    if named:
        opening = it.say(
            f"Many searches about {{topic}} name a place: {listed(named)}, for example.",
            f"{listed(named)}: that searches about {{topic}} name a place so often is no accident.",
        )
    else:
        opening = it.say("Searches about {topic} seldom name a place, but the answer often depends on one.")
    middle = it.say(
        "The outline is the same everywhere, while names of offices, dates, fees and forms are not.",
        "General advice holds in all of them; amounts, deadlines and the responsible office do not carry over.",
    )
    rules = [
        "Look for the page of the state, county or city itself. Its address usually ends in .gov.",
        "Check that the page names your place and the current year.",
        "If you have moved recently, ask which of the two places is responsible for you.",
    ]
    closing = it.say(
        "A telephone call to the local office settles in minutes what a search leaves open.",
        "When pages contradict each other, the local one counts.",
    )
    return Section(heading, f"{opening} {middle}\n\n{bulleted(rules)}\n\n{closing} {it.facts(1)}".rstrip())


def sources(it: Material) -> Section:
    opening = it.say(
        "Good answers about {topic} are free more often than not.",
        "Three kinds of source are worth your time here.",
        "It is better to read one reliable page twice than ten others once.",
    )
    closing = it.say(
        "Whatever you read, look for a date and for somebody who answers for it.",
        "Be careful with pages that ask for a payment or a number before they tell you anything.",
        "Save the pages that helped; you may need them again next year.",
    )
    heading = it.say("Where to Find Reliable Answers", "Good Sources", "Where to Look and Whom to Ask")
    return Section(heading, f"{opening} {' '.join(it.dice.shuffled(it.theme.sources))}\n\n{closing}")


def searches(it: Material) -> Section:
    shown = [quoted(keyword) for keyword in it.brief.keywords[:4]]
    opening = it.say(
        f"Typical searches are {listed(shown)}.",
        f"This page starts from real searches: {listed(shown)}.",
    )
    middle = it.say(
        "They have one thing in common: whoever types them wants to get on with something and lacks one piece.",
        "Some of them ask for a form or an office, others for an explanation, and a few for reassurance.",
        "The words differ, but the questions behind them are few: am I concerned, what do I do, and by when.",
    )
    closing = it.say(
        "It helps to know which kind of question yours is, because the answers are in different places.",
        "Put your own question into one full sentence; the answer gets easier to recognize.",
    )
    heading = it.say("What People Really Ask", "The Questions Behind the Search", "What Brings People Here")
    return Section(heading, f"{opening} {middle} {closing}\n\n{it.facts(2)}".rstrip())


BUILDERS: dict[str, Callable[[Material], Section]] = {
    "overview": overview,
    "steps": steps,
    "prepare": prepare,
    "mistakes": mistakes,
    "compare": compare,
    "places": places,
    "sources": sources,
    "searches": searches,
}
