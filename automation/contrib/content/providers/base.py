"""What a provider of texts or pictures promises, and the values that pass between it and the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from automation.errors import AutomationError
from automation.pipeline import Payload


class ProviderError(AutomationError):
    """A provider did not answer, or not with anything usable; the stage's retries may help."""

    code = "provider_error"


@dataclass(frozen=True)
class Idea:
    """One article worth writing."""

    title: str
    angle: str
    summary: str


@dataclass(frozen=True)
class Brief:
    """What a writer is told: made by the tasks stage."""

    title: str
    angle: str
    summary: str
    topic: str
    """Name of the cluster, as a headline."""
    keywords: Sequence[str]
    """Most relevant first."""
    words: int
    sections: int
    questions: int
    size: int = 0
    """How many keywords the cluster has, of which the first are here; 0: these."""
    volumes: Mapping[str, int] = field(default_factory=dict)
    """How often each keyword is searched for, where the input says so."""

    @classmethod
    def from_task(cls, task: Payload) -> Brief:
        return cls(
            title=task["title"],
            angle=task["angle"],
            summary=task["summary"],
            topic=task["cluster"],
            keywords=task["keywords"],
            words=task["words"],
            sections=task["sections"],
            questions=task["questions"],
            size=task.get("size", 0),
            volumes=task.get("volumes", {}),
        )


@dataclass(frozen=True)
class Section:
    """A heading and its text in Markdown."""

    heading: str
    body: str


@dataclass(frozen=True)
class Article:
    """All texts are Markdown without headings of their own."""

    title: str
    summary: str
    introduction: str
    sections: Sequence[Section]
    questions: Sequence[Section]
    """Questions and their answers."""
    conclusion: str
    note: str = ""
    """Said above all else, where the text is not meant for readers; such a page asks not to be indexed."""


@dataclass(frozen=True)
class Picture:
    """A PNG file and its size in pixels."""

    png: bytes
    width: int
    height: int


class TextProvider(Protocol):
    """Writes. The offline one always writes the same for the same arguments."""

    def ideas(self, topic: str, keywords: Sequence[str], count: int) -> Sequence[Idea]:
        """At least one idea and at most ``count``, no title twice."""

    def article(self, brief: Brief) -> Article:
        """A whole article for ``brief``, near its number of words."""

    def image_prompt(self, title: str, summary: str, number: int) -> str:
        """What the ``number``th picture of the article should show, in one paragraph."""


class ImageProvider(Protocol):
    """Draws."""

    def draw(self, prompt: str, title: str) -> Picture:
        """A picture for ``prompt``; ``title`` may be set in it."""
