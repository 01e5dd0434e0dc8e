"""The answer of a person to what a run asks: the verb that every entry point calls."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from automation.errors import (
    AmbiguousQuestion,
    InvalidAnswer,
    NothingAsked,
    QuestionClosed,
    QuestionNotFound,
)
from automation.models import AutomationRun, RunQuestion
from automation.models.runs import lock_runs
from automation.runs import failing, loop_failures, questions, transitions
from automation.runs.questions import FAIL, RETRY, AppliesTo, Kind
from pause_manager import scopes
from pause_manager.actor import Actor
from pause_manager.messaging import notifier
from pause_manager.observability import audit
from pause_manager.times import written

LONGEST_ANSWER = 2_000
MOST_NAMED = 10


def answer(
    run_id: UUID,
    text: str,
    *,
    actor: Actor,
    question_id: int | None = None,
    applies_to: str = AppliesTo.ITEM,
    reason: str = "",
) -> AutomationRun:
    """Answer what the run asks; with the last answer its ``needs_input`` hold goes, and no other hold (S-30).

    Without ``question_id`` it is the one open question; of several, the oldest if the answer applies to more than one
    (``same_error``, ``all``). ``retry`` tries again, ``skip`` gives the item up and continues, ``fail`` fails the run.

    Raises ``NothingAsked``, ``QuestionNotFound``, ``QuestionClosed``, ``AmbiguousQuestion`` or ``InvalidAnswer``.
    """
    text = text.strip()
    with transaction.atomic():
        lock_runs([str(run_id)])
        chosen = _chosen(run_id, question_id, applies_to)
        answered = _answered_with(chosen, applies_to)
        for one in answered:
            _refuse_if_unfit(one, text)
        questions.record_answer([one.pk for one in answered], text, applies_to=applies_to, actor=actor)
        _record(run_id, answered, text, applies_to, actor, reason)
        notifier.changed(scopes.run(run_id))
        if chosen.kind != Kind.QUESTION and text == FAIL:
            what = f"{chosen.item_key} has failed" if chosen.item_key else "it has failed"
            why = f"{chosen.stage_run.slug}: {what}, and {actor.name} let the run fail"
            failing.fail(run_id, reason=f"{why}: {chosen.error}" if chosen.error else why)
        else:
            if chosen.kind == Kind.LOOPS and text == RETRY:
                loop_failures.forget(chosen.stage_run_id)
            questions.release_if_answered(run_id, actor=actor, reason=reason or "its questions are answered")
    return AutomationRun.objects.with_leases().get(pk=run_id)


def open_questions(run_id: UUID) -> list[RunQuestion]:
    """What the run asks now, the oldest first."""
    return list(RunQuestion.objects.open().filter(run=run_id).select_related("stage_run").order_by("id"))


def _chosen(run_id: UUID, question_id: int | None, applies_to: str) -> RunQuestion:
    if question_id is not None:
        found = RunQuestion.objects.filter(run=run_id, pk=question_id).select_related("stage_run").first()
        if found is None:
            raise QuestionNotFound(run_id, question_id)
        if found.answered_at is not None:
            raise QuestionClosed(
                f"Cannot answer question {found.pk}: it was answered {found.answer!r} by {found.answered_by} "
                f"at {written(found.answered_at)}."
            )
        if found.closed_at is not None:
            raise QuestionClosed(f"Cannot answer question {found.pk}: its run has ended.")
        return found
    asked = open_questions(run_id)
    if not asked:
        if not AutomationRun.objects.filter(pk=run_id).exists():
            raise transitions.refusal("answer", run_id)
        raise NothingAsked(run_id)
    by_error = applies_to == AppliesTo.SAME_ERROR
    alike = {(one.kind, one.stage_run_id, one.error_pattern if by_error else "") for one in asked}
    if len(asked) > 1 and (applies_to == AppliesTo.ITEM or len(alike) > 1):
        named = ", ".join(_named(one) for one in asked[:MOST_NAMED])
        more = f" and {len(asked) - MOST_NAMED} more" if len(asked) > MOST_NAMED else ""
        raise AmbiguousQuestion(f"Cannot answer run {run_id}: it asks {len(asked)} questions, name one: {named}{more}.")
    return asked[0]


def _named(question: RunQuestion) -> str:
    about = f" {question.item_key}" if question.item_key else ""
    return f"{question.pk} ({question.stage_run.slug}{about})"


def _answered_with(chosen: RunQuestion, applies_to: str) -> Sequence[RunQuestion]:
    """The open questions to which the answer to ``chosen`` applies."""
    if applies_to == AppliesTo.ITEM:
        return [chosen]
    if applies_to == AppliesTo.SAME_ERROR and chosen.kind != Kind.ITEM:
        raise InvalidAnswer(
            f"Cannot answer question {chosen.pk} for all items with the same error: it is not about a failed item."
        )
    alike = RunQuestion.objects.open().filter(stage_run=chosen.stage_run_id, kind=chosen.kind)
    if applies_to == AppliesTo.SAME_ERROR:
        alike = alike.filter(error_pattern=chosen.error_pattern)
    return list(alike.order_by("id"))


def _refuse_if_unfit(question: RunQuestion, text: str) -> None:
    if question.choices and text not in question.choices:
        raise InvalidAnswer(
            f"Cannot answer question {question.pk}: expected one of {', '.join(question.choices)}, got: {text!r:.80}."
        )
    if not 0 < len(text) <= LONGEST_ANSWER or "\x00" in text:
        raise InvalidAnswer(
            f"Cannot answer question {question.pk}: expected a text of 1 to {LONGEST_ANSWER:,} characters, "
            f"got {len(text):,}."
        )


def _record(
    run_id: UUID, answered: Sequence[RunQuestion], text: str, applies_to: str, actor: Actor, reason: str
) -> None:
    # A free text may say what an item contains, and events outlive items.
    told = text if answered[0].choices else "in own words"
    audit.record(
        "answered",
        scope=scopes.run(run_id),
        actor=actor,
        reason=reason,
        details={
            "questions": [one.pk for one in answered[:100]],
            "count": len(answered),
            "about": answered[0].kind,
            "answer": told,
            "applies_to": applies_to,
        },
    )
