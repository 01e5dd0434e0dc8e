"""The admin action that answers what runs ask: a page with their questions, then one answer for each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import ngettext

from automation.errors import AutomationError
from automation.models import AutomationRun, RunQuestion
from automation.reports import payload_access
from automation.runs import answering
from pause_manager.admin.base import actor_of, reason_of

SHOWN = 50
PREFIX = "answer-"


@admin.action(description="Answer the questions of selected runs", permissions=["operate"])
def answer_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> HttpResponse | None:
    """Show what the runs ask; with the form sent, answer what was filled in."""
    if request.POST.get("answered") == "yes":
        _answer(request, queryset)
        return None
    ids = list(queryset.order_by().values_list("pk", flat=True))
    asked = RunQuestion.objects.open().filter(run__in=ids).select_related("run", "stage_run").order_by("id")
    found = list(asked[: SHOWN + 1])
    if not found:
        messages.warning(request, "The selected runs ask nothing.")
        return None
    is_shown = payload_access.may_view(request.user)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Answer the questions of these runs",
        "questions": [
            {
                "id": one.pk,
                "field": f"{PREFIX}{one.pk}",
                "run": one.run,
                "stage": one.stage_run.slug,
                "item": one.item_key,
                "text": payload_access.question(one, is_shown=is_shown),
                "error": one.error if is_shown or not one.error else payload_access.error_class(one.error),
                "choices": one.choices,
                "applies": RunQuestion.AppliesTo.choices if one.kind == RunQuestion.Kind.ITEM else (),
            }
            for one in found[:SHOWN]
        ],
        "has_more": len(found) > SHOWN,
        "ids": ids,
        "reason": reason_of(request),
        "opts": AutomationRun._meta,
    }
    return TemplateResponse(request, "admin/automation/automationrun/answer.html", context)


def _answer(request: HttpRequest, queryset: QuerySet[AutomationRun]) -> None:
    """Answer each question that the form names, of a run that the user may operate."""
    given = {name.removeprefix(PREFIX): text for name, text in request.POST.items() if name.startswith(PREFIX)}
    numbers = [int(name) for name, text in given.items() if name.isascii() and name.isdecimal() and str(text).strip()]
    known: dict[int, UUID] = dict(
        RunQuestion.objects.filter(pk__in=numbers, run__in=queryset.order_by().values("pk")).values_list("pk", "run")
    )
    done = 0
    for number, run_id in sorted(known.items()):
        applies_to = request.POST.get(f"applies-{number}", str(RunQuestion.AppliesTo.ITEM))
        if applies_to not in RunQuestion.AppliesTo.values:
            continue
        try:
            answering.answer(
                run_id,
                str(given[str(number)]),
                actor=actor_of(request),
                question_id=number,
                applies_to=applies_to,
                reason=reason_of(request),
            )
            done += 1
        except AutomationError as refusal:
            messages.warning(request, str(refusal))
    if done:
        messages.success(request, ngettext("Answered %d question.", "Answered %d questions.", done) % done)
    elif not numbers:
        messages.warning(request, "No question was answered: each answer was empty.")
