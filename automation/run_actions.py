"""Admin actions on runs: each tells what was done and every refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import ngettext

from automation import lifecycle, retries
from automation.errors import AutomationError
from automation.lifecycle import Outcome
from automation.models import AutomationRun
from pause_manager.actor import Actor

SHOWN = 20
"""Refusals told one by one, and runs listed before a cancel."""
LONGEST_REASON = 500

Verb = Callable[..., Outcome]


class ReasonForm(ActionForm):
    """The admin's action bar with a reason."""

    reason = forms.CharField(required=False, max_length=LONGEST_REASON, label="Reason")


@admin.action(description="Pause selected runs", permissions=["operate"])
def pause_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> None:
    _act(request, queryset, lifecycle.pause_runs, "Paused")


@admin.action(description="Resume selected runs", permissions=["operate"])
def resume_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> None:
    _act(request, queryset, lifecycle.resume_runs, "Resumed")


@admin.action(description="Cancel selected runs", permissions=["operate"])
def cancel_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> HttpResponse | None:
    """Asks first: a cancel is final."""
    if request.POST.get("confirmed") == "yes":
        _act(request, queryset, lifecycle.cancel_runs, "Cancelled")
        return None
    ids = _ids(queryset)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": ngettext("Cancel %d run?", "Cancel %d runs?", len(ids)) % len(ids),
        "runs": queryset[:SHOWN],
        "more": max(0, len(ids) - SHOWN),
        "ids": ids,
        "reason": _reason(request),
        "opts": AutomationRun._meta,
    }
    return TemplateResponse(request, "admin/automation/automationrun/confirm_cancel.html", context)


@admin.action(description="Retry what selected runs left undone", permissions=["operate"])
def retry_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[AutomationRun]) -> None:
    _act(request, queryset, _retry_runs, "Retried")


ACTIONS = (pause_selected, resume_selected, cancel_selected, retry_selected)


def _act(request: HttpRequest, queryset: QuerySet[AutomationRun], verb: Verb, done: str) -> None:
    outcome = verb(_ids(queryset), actor=Actor.user(request.user, channel="admin"), reason=_reason(request))
    count = len(outcome.done)
    if count:
        messages.success(request, ngettext("%s %d run.", "%s %d runs.", count) % (done, count))
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


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "").strip()[:LONGEST_REASON]
