"""The context of the current-processing card."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.template.loader import render_to_string
from django.utils.dateparse import parse_datetime

from automation import gate
from automation.gate import installed_code
from automation.models import TERMINAL, AutomationRun, Lifecycle
from automation.models.work import WorkItem, WorkSlice
from automation.reports import explanation, payload_access, progress, run_figures
from automation.reports.item_labels import label_of
from automation.runs import start_conditions
from automation.runs.retries import RETRYABLE
from backend.console import access
from backend.console.run import answers, card_lines
from pause_manager.console.live.sse import Update
from pause_manager.models import ControlEvent, Hold
from pause_manager.probes import processes

SAME_ACT = timedelta(seconds=1)
"""A pause and its event are written by statements of one transaction."""


@dataclass(frozen=True)
class Controls:
    """The enabled controls: what the run's state and the user's permissions allow."""

    pause: bool
    resume: bool
    cancel: bool
    retry: bool
    force: bool
    """The run waits for capacity and can be started anyway."""
    again: bool = False
    """It has ended, and another like it can be started."""

    @property
    def is_any(self) -> bool:
        return self.pause or self.resume or self.cancel or self.retry or self.force or self.again


@dataclass(frozen=True)
class Pause:
    """The pause in force: the items in progress when it began, and what a resume continues with."""

    in_progress: list[dict[str, Any]]
    starts: list[dict[str, Any]]
    follows: list[str]


@dataclass(frozen=True)
class Rights:
    """A user's rights on a run's card."""

    operate: bool
    payloads: bool
    """The content of items may be shown; otherwise only their keys."""

    @classmethod
    def of(cls, user: Any) -> Rights:
        return cls(user.has_perm(access.OPERATE), user.has_perm(access.PAYLOADS))


def context(run: AutomationRun, rights: Rights) -> dict[str, Any]:
    """Return the template context of the card of ``run``, a run from ``with_leases()``."""
    explained = explanation.of_run(run)
    reasons = list(explained.reasons)
    if not rights.payloads:
        reasons = payload_access.without_texts(reasons)
    found = progress.snapshot(run, has_reasons=not gate.may_proceed(reasons))
    now = found["status"]
    titles = {stage["slug"]: stage["title"] for stage in found["stages"]}
    for stage in found["stages"]:
        stage["is_current"] = stage["status"] not in ("pending", *TERMINAL)
    lines = card_lines.holds_of(run, reasons, may_operate=rights.operate)
    failed = sum(stage["failed_items"] for stage in found["stages"])
    asked, asks = answers.asked_by(run, titles, is_shown=rights.payloads) if run.paused_at else ([], 0)
    in_flight = [_in_progress(run.pipeline, lease, titles, rights) for lease in found["in_flight"]]
    return {
        "run": run,
        "status": now,
        "failure": payload_access.failure(run.failure, is_shown=rights.payloads),
        "title": installed_code.pipeline_title(run.pipeline),
        "overall": found["overall"],
        "stages": found["stages"],
        "current": [stage for stage in found["stages"] if stage["is_current"]],
        "in_flight": in_flight,
        "durations": found["durations"],
        "figures": run_figures.of_run(run),
        "is_final": run.lifecycle in TERMINAL,
        "is_ticking": run.started_at is not None and run.finished_at is None,
        # The banner says that the run is being cancelled, and a finished run waits for nothing.
        "reasons": [
            reason for reason in reasons if reason.code not in ("finished", "cancel") and not card_lines.is_hold(reason)
        ],
        "is_kept": not gate.may_proceed(reasons),
        "holds": lines,
        "is_for_people": any(line.is_of_people for line in lines),
        "position": explained.position,
        "expected_start": explained.expected_start,
        "ending": card_lines.ending_of(run, now, found["stages"], reasons),
        "left": card_lines.left_of(run, found["stages"]) if run.lifecycle not in TERMINAL else "",
        "failed": failed,
        "stopped_seconds": max(
            0.0, (found["durations"]["total_seconds"] or 0) - (found["durations"]["active_seconds"] or 0)
        ),
        "cancelling": next((reason.sentence for reason in reasons if reason.code == "cancel"), ""),
        "questions": asked,
        "more_questions": asks - len(asked),
        "pause": _pause(run, found["stages"], titles, rights) if run.paused_at else None,
        "controls": controls(run, may_operate=rights.operate),
        "may_operate": rights.operate,
    }


def controls(run: AutomationRun, *, may_operate: bool) -> Controls:
    """Return the enabled controls. Resume is enabled under a hold of a kind that it releases."""
    retry = may_operate and run.lifecycle in RETRYABLE and _has_failures(run) and not hasattr(run, "retried_by")
    is_open = may_operate and run.lifecycle not in TERMINAL and run.cancel_requested_at is None
    kinds = set(Hold.objects.covering([run.scope]).values_list("kind", flat=True)) if is_open else set()
    held, waits = Hold.Kind.OPERATOR in kinds, Hold.Kind.CAPACITY in kinds
    may_resume = held or not kinds.isdisjoint(start_conditions.kinds())
    again = may_operate and run.lifecycle in TERMINAL
    return Controls(is_open and not held, may_resume, is_open, retry, waits, again)


def _has_failures(run: AutomationRun) -> bool:
    return run.lifecycle == Lifecycle.FAILED or run.stages.filter(failures__isnull=False).exists()


def update(run_id: UUID, rights: Rights) -> Update | None:
    """Render the card for the live stream; ``None`` if the run no longer exists."""
    run = AutomationRun.objects.with_leases().select_related("site").filter(pk=run_id).first()
    if run is None:
        return None
    found = context(run, rights)
    return Update(render_to_string("console/run/_card.html", found), page_version(found))


def page_version(found: dict[str, Any]) -> str:
    """Return a digest that changes with the status and with the start or end of a stage: then the page is refreshed."""
    lines = (f"{line.sentence} {line.since}" for line in found["holds"])
    facts = [found["status"], *lines, *(f"{stage['slug']}:{stage['status']}" for stage in found["stages"])]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:16]


def _in_progress(pipeline: str, lease: dict[str, Any], titles: dict[str, str], rights: Rights) -> dict[str, Any]:
    items = [
        payload_access.label_of(pipeline, lease["stage"], item["payload"], item["key"], is_shown=rights.payloads)
        for item in lease["items"]
    ]
    return {
        "worker": processes.name_of(lease["worker"], lease["node"]),
        "stage": titles.get(lease["stage"], lease["stage"]),
        "item": items[0] if items else lease["item"],
        "next": items[1] if len(items) > 1 else "",
        "since": lease["item_since"],
        "limit": lease["item_limit"],
    }


def _pause(run: AutomationRun, stages: list[dict[str, Any]], titles: dict[str, str], rights: Rights) -> Pause | None:
    assert run.paused_at is not None
    # The first hold of the pause in force: what was placed on top of it later met nothing in progress.
    placed = (
        ControlEvent.objects.of_scope(run.scope).filter(action="hold_placed", at__gte=run.paused_at - SAME_ACT).last()
    )
    in_flight = placed.details.get("in_flight", []) if placed is not None else []
    names = _names(run.pipeline, in_flight) if rights.payloads else {}
    in_progress = [
        {
            "worker": processes.name_of(entry["worker"], entry["node"]),
            "stage": titles.get(entry["stage"], entry["stage"]),
            "item": entry["item"],
            "name": names.get((entry["slice"], entry["item"]), ""),
            "since": parse_datetime(entry["since"]),
        }
        for entry in in_flight
    ]
    pending = [stage for stage in stages if stage["status"] == Lifecycle.PENDING]
    starts = [stage for stage in stages if stage["is_current"]] or pending[:1]
    if not any(stage["is_current"] for stage in stages):
        starts = [{**stage, "remaining_count": run.total_items} for stage in starts]
    follows = [stage["title"] for stage in pending if stage["slug"] not in {start["slug"] for start in starts}]
    return Pause(in_progress, starts, follows)


def _names(pipeline: str, in_flight: list[dict[str, Any]]) -> dict[tuple[int, str], str]:
    """Return the labels of the items of an event, by slice and key."""
    sources = dict(WorkSlice.objects.filter(pk__in=[entry["slice"] for entry in in_flight]).values_list("pk", "source"))
    wanted = {(sources.get(entry["slice"]), entry["item"]): (entry["slice"], entry["item"]) for entry in in_flight}
    stages = {(entry["slice"], entry["item"]): entry["stage"] for entry in in_flight}
    chosen = Q(pk__in=[])
    for source, key in wanted:
        if source is not None and key is not None:
            chosen |= Q(made_by=source, key=key)
    found = WorkItem.objects.filter(chosen).values_list("made_by", "key", "payload")
    names = {}
    for source, key, payload in found:
        place = wanted[source, key]
        names[place] = label_of(pipeline, stages[place], payload, key)
    return names
