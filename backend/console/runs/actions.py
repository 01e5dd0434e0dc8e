"""What an operator does with runs from the list: one or many, each done or refused by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from django.urls import reverse

from automation.errors import TransitionRefused
from automation.models import AutomationRun
from automation.reports import payload_access
from automation.runs import capacity_override, chosen_retries, lifecycle, retries
from automation.runs.lifecycle import Outcome
from backend.console import access
from backend.console.run import failures
from pause_manager.actor import Actor
from pause_manager.console.pages import Action, Done, Refused, Request

MOST = 200
"""Runs in one action: more than a person ticks on pages of 25."""

Verb = Callable[..., Outcome]


def _each(verb: Callable[..., AutomationRun]) -> Verb:
    """``verb`` over many runs, each in a transaction of its own."""

    def many(run_ids: list[UUID], *, actor: Actor, reason: str) -> Outcome:
        outcome = Outcome()
        for pk in run_ids:
            try:
                outcome.done.append(verb(pk, actor=actor, reason=reason).pk)
            except TransitionRefused as refusal:
                outcome.refused.append(refusal)
        return outcome

    return many


def _action(verb: Verb, word: str) -> Action:
    def run(request: Request) -> Done:
        ids = _asked(request)
        visible = set(AutomationRun.objects.visible_to(request.user).filter(pk__in=ids).values_list("pk", flat=True))
        outcome = verb([pk for pk in ids if pk in visible], actor=request.actor, reason=request.reason)
        problems = [str(refusal) for refusal in outcome.refused]
        problems += [f"Cannot change run {pk}: there is no such run." for pk in ids if pk not in visible]
        if not outcome.done and len(problems) == 1:
            raise Refused(problems[0])
        done, of = len(outcome.done), len(ids)
        told = f"{word} 1 run." if done == of == 1 else f"{word} {done} of {of} runs."
        new = outcome.done[0] if done == 1 and outcome.done[0] not in ids else None
        return Done(told, reverse("console:run", args=[new]) if new and of == 1 else "", tuple(problems))

    return Action(run, access.OPERATE)


def _asked(request: Request, most: int = MOST) -> list[UUID]:
    given = list(dict.fromkeys(request.lists("run"))) if most > 1 else [request.values.get("run", "")]
    if not given:
        raise Refused("Cannot do that: no run is selected.")
    if len(given) > most:
        raise Refused(f"Cannot do that: expected at most {most} runs, got {len(given):,}.")
    try:
        return [UUID(one) for one in given]
    except ValueError:
        raise Refused("Cannot do that: expected ids of runs.") from None


ACTIONS: dict[str, Action] = {
    "pause": _action(lifecycle.pause_runs, "Paused"),
    "resume": _action(lifecycle.resume_runs, "Resumed"),
    "cancel": _action(lifecycle.cancel_many, "Cancelled"),
    "retry": _action(_each(retries.retry_failed), "Retried"),
    "force": _action(_each(capacity_override.start_anyway), "Started"),
}


def retry_items(request: Request) -> Done:
    """Retry chosen failed items of a run: one by its ``key``, with another ``payload`` if there is one, or those of a
    ``signature``."""
    (pk,) = _asked(request, most=1)
    run = AutomationRun.objects.visible_to(request.user).filter(pk=pk).first()
    if run is None:
        raise Refused(f"Cannot retry items of run {pk}: there is no such run.")
    slug = request.required("stage", "the stage")
    payload = _payload(request)
    if key := request.values.get("key", ""):
        keys = [key]
    else:
        stage_run = run.stages.filter(slug=slug, position__gte=0).first()
        is_shown = payload_access.may_view(request.user)
        signature = request.required("signature", "which failures")
        keys = failures.keys_of(stage_run, signature, is_shown=is_shown) if stage_run is not None else []
    if not keys:
        raise Refused(f"Cannot retry items of run {pk}: no item failed this way.")
    new = chosen_retries.retry_items(pk, slug, keys, payload=payload, actor=request.actor, reason=request.reason)
    return Done(f"Started run {str(new.pk)[:8]} over {new.total_items:,} items.", reverse("console:run", args=[new.pk]))


def _payload(request: Request) -> dict[str, Any] | None:
    if "payload" not in request.values:
        return None
    if not payload_access.may_view(request.user):
        raise Refused("Cannot change the content: you do not have the permission to view payloads.")
    try:
        found = orjson.loads(request.values["payload"])
    except ValueError as error:
        raise Refused(f"Cannot read the content: it is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise Refused("Cannot read the content: expected a JSON object.")
    return found


ACTIONS["retry_items"] = Action(retry_items, access.OPERATE)
