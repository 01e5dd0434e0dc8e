"""The verbs of the card: pause, resume, start anyway, cancel, retry and answer."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST
from django_htmx.http import HttpResponseClientRedirect

from automation.errors import TransitionRefused
from automation.runs import capacity_override, lifecycle, retries
from backend.console import access
from backend.console.run import answers, card
from pause_manager.actor import Actor

VERBS = {
    "pause": lifecycle.pause,
    "resume": lifecycle.resume,
    "force": capacity_override.start_anyway,
    "cancel": lifecycle.cancel,
    "retry": retries.retry_failed,
}
LONGEST_REASON = 500


@require_POST
@access.for_viewers
@access.for_operators
def control(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Perform one verb; responds with the new card, and with the sentence of a refusal.

    A retry responds with a redirect to the new run.
    """
    run = access.visible_run(request, run_id)
    verb = VERBS.get(request.POST.get("verb", ""))
    if verb is None:
        return HttpResponseBadRequest(f"Cannot control the run: expected one of {', '.join(VERBS)}.")
    refusal = ""
    try:
        actor = Actor.user(request.user, channel="console")
        changed = verb(run.pk, actor=actor, reason=request.POST.get("reason", "").strip()[:LONGEST_REASON])
        if changed.pk != run.pk:
            return HttpResponseClientRedirect(reverse("console:run", args=[changed.pk]))
    except TransitionRefused as error:
        refusal = str(error)
    return _card(request, run_id, refusal)


@require_POST
@access.for_viewers
@access.for_operators
def answer(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Answer a question of the run; responds with the new card, and with the sentence of a refusal."""
    run = access.visible_run(request, run_id)
    return _card(request, run_id, answers.give(request, run.pk))


def _card(request: HttpRequest, run_id: UUID, refusal: str) -> HttpResponse:
    run = access.visible_run(request, run_id)
    found = card.context(run, card.Rights.of(request.user)) | {"refusal": refusal}
    return render(request, "console/run/_control_response.html", found, status=409 if refusal else 200)
