"""What a run asks, on its card, and the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.http import HttpRequest

from automation.errors import AutomationError
from automation.models import AutomationRun, RunQuestion
from automation.reports import payload_access
from automation.runs import answering, questions
from automation.runs.answering import LONGEST_ANSWER
from pause_manager.actor import Actor

SHOWN = 10
LONGEST_REASON = 500
_WORDS = {questions.RETRY: "Try again", questions.SKIP: "Skip it", questions.FAIL: "Let the run fail"}
_WORDS_OF_LIMIT = {**_WORDS, questions.SKIP: "Continue regardless"}


@dataclass(frozen=True)
class Asked:
    """One open question as the card shows it."""

    id: int
    text: str
    stage: str
    item: str
    error: str
    since: datetime
    choices: list[tuple[str, str]]
    """(answer, its words)."""
    scopes: list[tuple[str, str]]
    """(value, words) of what the answer may apply to, if there is a choice."""


def asked_by(run: AutomationRun, titles: dict[str, str], *, is_shown: bool) -> tuple[list[Asked], int]:
    """The first questions of a run, and how many it asks in all."""
    found = answering.open_questions(run.pk)
    alike = {(one.kind, one.stage_run_id) for one in found}
    return [
        Asked(
            one.pk,
            payload_access.question(one, is_shown=is_shown),
            titles.get(one.stage_run.slug, one.stage_run.slug),
            one.item_key,
            one.error if is_shown or not one.error else payload_access.error_class(one.error),
            one.asked_at,
            _choices(one),
            _scopes(one, has_others=len(found) > len(alike)),
        )
        for one in found[:SHOWN]
    ], len(found)


def _choices(question: RunQuestion) -> list[tuple[str, str]]:
    if question.kind == RunQuestion.Kind.QUESTION:
        return [(choice, choice) for choice in question.choices]
    words = _WORDS_OF_LIMIT if question.kind == RunQuestion.Kind.FAILURES else _WORDS
    return [(choice, words[choice]) for choice in question.choices]


def _scopes(question: RunQuestion, *, has_others: bool) -> list[tuple[str, str]]:
    every = [("item", "this item"), ("same_error", "all items with this error"), ("all", "all items that fail")]
    if question.kind == RunQuestion.Kind.ITEM:
        return every
    is_question = question.kind == RunQuestion.Kind.QUESTION
    return (
        [("item", "this question"), ("all", "all open questions of this stage")] if is_question and has_others else []
    )


def give(request: HttpRequest, run_id: UUID) -> str:
    """Answer as the form says; the sentence of a refusal, empty if there was none."""
    number = request.POST.get("question", "")
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        return f"Cannot answer: expected the number of a question, got: {number[:40]!r}."
    applies_to = request.POST.get("apply_to", "item")
    if applies_to not in RunQuestion.AppliesTo.values:
        return f"Cannot answer: expected one of {', '.join(RunQuestion.AppliesTo.values)}, got: {applies_to[:40]!r}."
    try:
        answering.answer(
            run_id,
            request.POST.get("answer", "")[: LONGEST_ANSWER + 1],
            actor=Actor.user(request.user, channel="console"),
            question_id=int(number),
            applies_to=applies_to,
            reason=request.POST.get("reason", "").strip()[:LONGEST_REASON],
        )
    except AutomationError as refusal:
        return str(refusal)
    return ""
