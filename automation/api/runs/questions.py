"""What runs ask, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from rest_framework import serializers

from automation.api.runs.views import run_verb
from automation.api.work.views import page_view
from automation.errors import LONGEST_QUESTION
from automation.models import AutomationRun, RunQuestion
from automation.reports import payload_access
from automation.runs import answering
from pause_manager.actor import Actor
from pause_manager.api.http import pagination
from pause_manager.api.http.strict import ReasonSerializer

ENDS = "Own words of a stage are left out for callers without the permission `automation.view_payloads`."


class QuestionQuery(pagination.PageQuery):
    state = serializers.ChoiceField(
        choices=("open", "closed"), required=False, help_text="Only those that wait for an answer, or only the others."
    )


class AnswerSerializer(ReasonSerializer):
    """An answer to what a run asks."""

    answer = serializers.CharField(
        max_length=LONGEST_QUESTION, help_text="One of the question's choices, if it has any; else any text."
    )
    question = serializers.IntegerField(
        required=False, min_value=1, help_text="Id of the question; needed if the run asks several."
    )
    apply_to = serializers.ChoiceField(
        choices=RunQuestion.AppliesTo.choices,
        required=False,
        default=str(RunQuestion.AppliesTo.ITEM),
        help_text="More of the same stage: all open questions of that kind, or those about the same error. A `skip` "
        "holds for later items as well.",
    )


class QuestionSerializer(serializers.ModelSerializer[RunQuestion]):
    """What a run asks, or has asked."""

    stage = serializers.CharField(source="stage_run.slug")
    item = serializers.CharField(
        source="item_key", help_text="Key of the item; `prepare`, `setup` or `finish`; empty for the whole stage."
    )
    kind = serializers.ChoiceField(choices=RunQuestion.Kind.choices)
    question = serializers.SerializerMethodField(help_text=ENDS)
    error = serializers.SerializerMethodField(help_text="Of the last attempt, if it is about a failure. " + ENDS)
    answer = serializers.SerializerMethodField(help_text="Empty while it is open. " + ENDS)
    apply_to = serializers.ChoiceField(source="applies_to", choices=RunQuestion.AppliesTo.choices)
    closed_at = serializers.DateTimeField(allow_null=True, help_text="When its run ended without an answer.")

    class Meta:
        model = RunQuestion
        fields: ClassVar = [
            "id",
            "stage",
            "item",
            "kind",
            "question",
            "choices",
            "error",
            "attempts",
            "asked_at",
            "answer",
            "apply_to",
            "answered_at",
            "answered_by",
            "closed_at",
        ]

    def get_question(self, question: RunQuestion) -> str:
        return payload_access.question(question, is_shown=self.context["is_shown"])

    def get_error(self, question: RunQuestion) -> str:
        shown: bool = self.context["is_shown"]
        return question.error if shown or not question.error else payload_access.error_class(question.error)

    def get_answer(self, question: RunQuestion) -> str:
        return question.answer if self.context["is_shown"] or question.choices else ""


def shown(questions: list[Any], *, is_shown: bool) -> list[Mapping[str, Any]]:
    """Questions as JSON."""
    return list(QuestionSerializer(questions, many=True, context={"is_shown": is_shown}).data)


def _rows(run: AutomationRun, query: dict[str, Any]) -> Any:
    rows = RunQuestion.objects.filter(run=run).select_related("stage_run")
    if "state" not in query:
        return rows
    return rows.open() if query["state"] == "open" else rows.exclude(pk__in=rows.open())


RunQuestions = page_view(
    "list_questions",
    "List what a run asks, and has asked, newest first",
    "The run is held while a question is open.",
    page=("QuestionPage", QuestionSerializer),
    query=QuestionQuery,
    order=("-id",),
    rows=_rows,
    show=lambda request, rows: [dict(one) for one in shown(rows, is_shown=payload_access.may_view(request.user))],
)


def _answer(
    run_id: UUID, *, actor: Actor, reason: str, answer: str, apply_to: str, question: int | None = None
) -> AutomationRun:
    return answering.answer(run_id, answer, actor=actor, question_id=question, applies_to=apply_to, reason=reason)


AnswerRun = run_verb(
    "answer_run",
    _answer,
    "Answer what a run asks",
    "With the last answer the hold `needs_input` ends, and no other; the item that asked is tried again with it. A run "
    "that asks nothing answers 409 (`nothing_asked`), one that asks several 409 (`question_ambiguous`) unless one is "
    "named, and a question that was answered before 409 (`question_closed`). An answer that is none of the choices "
    "answers 400 and names them.",
    body=AnswerSerializer,
)
