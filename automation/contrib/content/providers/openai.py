"""Texts and pictures from any OpenAI-compatible endpoint: chat or plain completion, and image generation."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

from PIL import Image, UnidentifiedImageError

from automation.contrib.content.language import sentence
from automation.contrib.content.providers import prompting
from automation.contrib.content.providers.base import Article, Brief, Idea, Picture, ProviderError, Section
from automation.contrib.content.providers.endpoint import Endpoint
from automation.contrib.content.providers.prompting import Prompt

TEMPERATURE = 0.6
FREQUENCY_PENALTY = 0.5
"""Base models repeat themselves without one."""
SAME_WORDS = 0.7
"""Two sentences that share more of their words say the same."""
NUMBERED = re.compile(r"^\s*(?:\d+\s*[.):]|[-*•])\s*(.+)$")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
ENDS_WORDS = 70
FEWEST_WORDS = 3
LONGEST_TITLE = 120


class OpenAIText:
    """A seed made from the prompt is sent along, so an endpoint that honours seeds answers the same again."""

    def __init__(self, endpoint: Endpoint, *, model: str, is_chat: bool) -> None:
        self._endpoint = endpoint
        self._model = model
        self._is_chat = is_chat

    def ideas(self, topic: str, keywords: Sequence[str], count: int) -> Sequence[Idea]:
        found: dict[str, Idea] = {}
        for line in self._lines(prompting.ideas(topic, keywords, count), f"ideas about {topic}"):
            title, _, summary = (
                part.strip(" *\"'") for part in re.sub(r"\s+[-–—:]\s+", "\0", line, count=1).partition("\0")
            )
            if 3 < len(title) <= LONGEST_TITLE:
                found.setdefault(
                    title.casefold(), Idea(title, "guide", summary or f"{title}, explained in plain words.")
                )
        if not found:
            raise ProviderError(f"Cannot use the model's ideas about {topic}: it proposed none that reads as a title.")
        return list(found.values())[:count]

    def article(self, brief: Brief) -> Article:
        headings = self._lines(prompting.outline(brief), f"an outline of {brief.title}")[: brief.sections]
        each = max(60, (brief.words - 2 * ENDS_WORDS - 50 * brief.questions) // len(headings))
        questions = self._lines(prompting.question_list(brief), f"questions about {brief.topic}")[: brief.questions]
        return Article(
            title=brief.title,
            summary=brief.summary,
            introduction=self._passage(brief, "Introduction", ENDS_WORDS),
            sections=[Section(heading, self._passage(brief, heading, each)) for heading in headings],
            questions=[Section(it, self._text(prompting.answer(brief, it), f"an answer to {it}")) for it in questions],
            conclusion=self._passage(brief, "Conclusion", ENDS_WORDS),
        )

    def image_prompt(self, title: str, summary: str, number: int) -> str:
        return self._text(prompting.picture(title, summary, number), f"a picture for {title}")

    def _passage(self, brief: Brief, heading: str, words: int) -> str:
        return self._text(prompting.passage(brief, heading, words), f"the section {heading} of {brief.title}")

    def _lines(self, prompt: Prompt, purpose: str) -> list[str]:
        text = self._ask(prompt)
        if not self._is_chat:
            text = f"1. {text}"
        found = [match.group(1).strip(" *") for line in text.splitlines() if (match := NUMBERED.match(line))]
        lines = list(dict.fromkeys(line for line in found if line))
        if not lines:
            raise ProviderError(
                f"Cannot use the model's answer for {purpose}: expected a numbered list, got: {text[:120]!r}."
            )
        return lines

    def _text(self, prompt: Prompt, purpose: str) -> str:
        text = without_loops(self._ask(prompt), is_cut=not self._is_chat)
        if not text:
            raise ProviderError(f"Cannot use the model's answer for {purpose}: it is empty.")
        return text

    def _ask(self, prompt: Prompt) -> str:
        asked = prompt.instruction if self._is_chat else prompt.example
        body: dict[str, Any] = {
            "temperature": TEMPERATURE,
            "seed": int.from_bytes(hashlib.sha256(asked.encode()).digest()[:4]) >> 1,
            "max_tokens": prompt.most_tokens,
        }
        if self._model:
            body["model"] = self._model
        if self._is_chat:
            body["messages"] = [
                {"role": "system", "content": prompting.EDITOR},
                {"role": "user", "content": prompt.instruction},
            ]
            body["max_tokens"] = prompt.most_tokens * 2
            answer = self._endpoint.post("chat/completions", body)
        else:
            body |= {"prompt": prompt.example, "stop": list(prompt.stop), "frequency_penalty": FREQUENCY_PENALTY}
            answer = self._endpoint.post("completions", body)
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] if self._is_chat else choice["text"]
            return str(text or "").replace("\0", "").strip()
        except (KeyError, IndexError, TypeError):
            raise ProviderError(f"Cannot use the endpoint's answer: it has no choices: {str(answer)[:200]}.") from None


class OpenAIImages:
    """Asks ``images/generations`` for base64 and converts whatever comes to PNG."""

    def __init__(self, endpoint: Endpoint, *, model: str) -> None:
        self._endpoint = endpoint
        self._model = model

    def draw(self, prompt: str, title: str) -> Picture:
        body: dict[str, Any] = {"prompt": prompt, "n": 1, "response_format": "b64_json"}
        if self._model:
            body["model"] = self._model
        answer = self._endpoint.post("images/generations", body)
        try:
            received = base64.b64decode(answer["data"][0]["b64_json"], validate=True)
            with Image.open(io.BytesIO(received)) as image:
                picture = image.convert("RGB")
        except (KeyError, IndexError, TypeError, binascii.Error):
            raise ProviderError(f"Cannot use the endpoint's picture for {title!r}: it sent no base64 data.") from None
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise ProviderError(f"Cannot use the endpoint's picture for {title!r}: {error}.") from None
        file = io.BytesIO()
        picture.save(file, "PNG")
        return Picture(file.getvalue(), picture.width, picture.height)


def without_loops(text: str, *, is_cut: bool) -> str:
    """``text`` without sentences said before, which small models repeat, and without a last one that was cut off."""
    paragraphs: list[str] = []
    said: list[set[str]] = []
    for paragraph in text.strip().split("\n"):
        fresh = []
        for part in SENTENCE_END.split(paragraph):
            words = set(part.casefold().split())
            if len(words) < FEWEST_WORDS or not any(len(words & it) > SAME_WORDS * len(words | it) for it in said):
                said.append(words)
                fresh.append(part.rstrip())
        paragraphs.append(" ".join(fresh))
    while is_cut and paragraphs:
        whole = [part for part in SENTENCE_END.split(paragraphs[-1]) if part.endswith((".", "!", "?"))]
        if whole or len(paragraphs) == 1:
            paragraphs[-1] = " ".join(whole) or paragraphs[-1]
            break
        paragraphs.pop()
    return sentence("\n".join(paragraphs).strip())
