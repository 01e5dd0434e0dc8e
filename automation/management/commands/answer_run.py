"""``manage.py answer_run``: what a run asks, and the answer."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation.errors import (
    AmbiguousQuestion,
    NothingAsked,
    QuestionClosed,
    QuestionNotFound,
)
from automation.management.run_command import CommandRefused, Exit, RunCommand, facts_of, find_run
from automation.models import AutomationRun, RunQuestion
from automation.reports import status
from automation.runs import answering
from pause_manager import times
from pause_manager.actor import Actor


class Command(RunCommand):
    """Calls ``answering.answer``; returns at once."""

    help = "Answer what a run asks. Without an answer, list its open questions."

    def arguments(self, parser: ArgumentParser) -> None:
        super().arguments(parser)
        parser.add_argument(
            "answer", nargs="?", metavar="ANSWER", help="one of the choices, or any text without choices"
        )
        parser.add_argument("--question", type=int, metavar="ID", help="id of the question, if the run asks several")
        parser.add_argument(
            "--apply-to",
            choices=RunQuestion.AppliesTo.values,
            default=str(RunQuestion.AppliesTo.ITEM),
            help="more of the same stage: all open questions of that kind, or those about the same error; "
            "'skip' holds for later items as well (default: item)",
        )
        parser.add_argument("--reason", default="", help="why, for the audit trail")

    def run_command(self, **options: Any) -> Exit:
        run = find_run(options["run"])
        if options["answer"] is None:
            return self._list(run, as_json=options["json"])
        run = answering.answer(
            run.pk,
            options["answer"],
            actor=Actor.shell(),
            question_id=options["question"],
            applies_to=options["apply_to"],
            reason=options["reason"],
        )
        left = len(answering.open_questions(run.pk))
        more = f" It asks {left} more question{'s' if left > 1 else ''}." if left else ""
        self.tell(run, f"Run {run.pk} is {status.in_words(status.of(run))}.{more}", as_json=options["json"], open=left)
        return Exit.OK

    def refusal(self, error: Exception) -> CommandRefused | None:
        if isinstance(error, NothingAsked | QuestionClosed | AmbiguousQuestion):
            return CommandRefused(str(error), Exit.REFUSED, error.code)
        if isinstance(error, QuestionNotFound):
            return CommandRefused(str(error), Exit.NOT_FOUND, error.code)
        return super().refusal(error)

    def _list(self, run: AutomationRun, *, as_json: bool) -> Exit:
        asked = answering.open_questions(run.pk)
        if as_json:
            self.line(facts_of(run) | {"questions": [_as_dict(one) for one in asked]})
            return Exit.OK
        if not asked:
            self.line(f"Run {run.pk} asks nothing.")
        for one in asked:
            about = f" {one.item_key}" if one.item_key else ""
            self.line(f"{one.pk}  {one.stage_run.slug}{about}, since {times.written(one.asked_at)}: {one.question}")
            if one.error:
                self.line(f"    {one.error}")
            self.line(f"    {' | '.join(one.choices) or 'any text'}")
        return Exit.OK


def _as_dict(question: RunQuestion) -> dict[str, Any]:
    return {
        "id": question.pk,
        "stage": question.stage_run.slug,
        "item": question.item_key,
        "kind": question.kind,
        "question": question.question,
        "choices": question.choices,
        "error": question.error,
        "attempts": question.attempts,
        "asked_at": question.asked_at.isoformat(),
    }
