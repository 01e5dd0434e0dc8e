"""Admin actions on runs: each reports what was done and every refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import ngettext

from automation.admin.answers import answer_selected
from automation.errors import AutomationError
from automation.models import AutomationRun
from automation.retention import deletion
from automation.runs import lifecycle, retries
from automation.runs.lifecycle import Outcome
from pause_manager.actor import Actor
from pause_manager.admin.base import actor_of, reason_of

SHOWN = 20
"""Refusals shown one by one, and runs listed before a cancel."""

Verb = Callable[..., Outcome]


@admin.action(description="Pause selected runs", permissions=["operate"])
def pause_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> None:
    _act(request, queryset, lifecycle.pause_runs, "Paused")


@admin.action(description="Resume selected runs", permissions=["operate"])
def resume_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> None:
    _act(request, queryset, lifecycle.resume_runs, "Resumed")


@dataclass(frozen=True)
class Question:
    """The question asked before an action that is final."""

    action: str
    verb: str
    consequence: str


_CANCEL = Question(
    "cancel_selected",
    "Cancel",
    "Workers finish their current item, then these runs end for good. Finished items are kept; the rest will not run.",
)
_DELETE = Question(
    "delete_runs_selected",
    "Delete",
    "These runs, their items, failures and files are deleted for good. The events of the audit trail are kept.",
)


@admin.action(description="Cancel selected runs", permissions=["operate"])
def cancel_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> HttpResponse | None:
    """Cancel after a confirmation, since a cancel is final."""
    return _act_if_confirmed(model_admin, request, queryset, _CANCEL, lifecycle.cancel_runs, "Cancelled")


@admin.action(description="Delete selected runs, which have ended", permissions=["remove"])
def delete_runs_selected(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]
) -> HttpResponse | None:
    """Delete after a confirmation."""
    return _act_if_confirmed(model_admin, request, queryset, _DELETE, deletion.delete_runs, "Deleted")


@admin.action(description="Retry failed and unreached items", permissions=["operate"])
def retry_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> None:
    _act(request, queryset, _retry_runs, "Retried")


ACTIONS = (pause_selected, resume_selected, answer_selected, cancel_selected, retry_selected, delete_runs_selected)


def _act_if_confirmed(
    model_admin: Any,
    request: HttpRequest,
    queryset: QuerySet[AutomationRun],
    question: Question,
    verb: Verb,
    done: str,
) -> HttpResponse | None:
    if request.POST.get("confirmed") == "yes":
        _act(request, queryset, verb, done)
        return None
    ids = _ids(queryset)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"{question.verb} {len(ids)} {ngettext('run', 'runs', len(ids))}?",
        "question": question,
        "runs": queryset[:SHOWN],
        "more": max(0, len(ids) - SHOWN),
        "ids": ids,
        "reason": reason_of(request),
        "opts": AutomationRun._meta,
    }
    return TemplateResponse(request, "admin/automation/automationrun/confirm.html", context)


def _act(request: HttpRequest, queryset: QuerySet[AutomationRun], verb: Verb, done: str) -> None:
    outcome = verb(_ids(queryset), actor=actor_of(request), reason=reason_of(request))
    before = len(outcome.unchanged)
    count = len(outcome.done) - before
    if count:
        messages.success(request, ngettext("%s %d run.", "%s %d runs.", count) % (done, count))
    if before:
        was = ngettext("%d was %s already.", "%d were %s already.", before) % (before, done.lower())
        messages.info(request, was)
    for refusal in outcome.refused[:SHOWN]:
        messages.warning(request, str(refusal))
    if len(outcome.refused) > SHOWN:
        messages.warning(request, f"{len(outcome.refused) - SHOWN} more were refused.")


def _retry_runs(run_ids: Sequence[UUID], *, actor: Actor, reason: str) -> Outcome:
    outcome = Outcome()
    for pk in run_ids:
        try:
            retries.retry_failed(pk, actor=actor, reason=reason)
            outcome.done.append(pk)
        except AutomationError as refusal:
            outcome.refused.append(refusal)  # type: ignore[arg-type]
    return outcome


def _ids(queryset: QuerySet[AutomationRun]) -> list[UUID]:
    return list(queryset.order_by().values_list("pk", flat=True))
