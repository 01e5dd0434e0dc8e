"""The current-processing card: everything it shows, gathered in one place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.template.loader import render_to_string
from django.utils.dateparse import parse_datetime

from automation import gate
from automation.gate import installed_code
from automation.models import TERMINAL, AutomationRun, Lifecycle
from automation.models.work import WorkItem, WorkSlice
from automation.reports import payload_access, progress, status
from automation.reports.up_next import title_of
from automation.runs.retries import RETRYABLE
from backend.console import access
from backend.console.live import Update
from pause_manager.models import ControlEvent, Hold
from pause_manager.probes import processes


@dataclass(frozen=True)
class Controls:
    """Which controls are enabled: what the run allows and the user may."""

    pause: bool
    resume: bool
    cancel: bool
    retry: bool
    force: bool
    """It waits for room and may be started anyway."""


@dataclass(frozen=True)
class Pause:
    """The pause in force: who, when, why; who was at what then; what goes on at a resume."""

    since: datetime
    actor: str
    reason: str
    at_work: list[dict[str, Any]]
    starts: list[dict[str, Any]]
    follows: list[str]


@dataclass(frozen=True)
class Rights:
    """What of a run's card is for whoever looks at it."""

    operate: bool
    payloads: bool
    """What items contain; else they are told of by their keys."""

    @classmethod
    def of(cls, user: Any) -> Rights:
        return cls(user.has_perm(access.OPERATE), user.has_perm(access.PAYLOADS))


def context(run: AutomationRun, rights: Rights) -> dict[str, Any]:
    """The template context of the card of ``run``, which comes from ``with_leases()``."""
    reasons = gate.explain(run)
    if not rights.payloads:
        reasons = payload_access.without_texts(reasons)
    now = status.of(run, has_reasons=bool(reasons))
    found = progress.snapshot(run)
    titles = {stage["slug"]: stage["title"] for stage in found["stages"]}
    for stage in found["stages"]:
        stage["is_current"] = stage["status"] not in ("pending", *TERMINAL)
    in_flight = [_at_work(lease, titles, rights) for lease in found["in_flight"]]
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
        "is_final": run.lifecycle in TERMINAL,
        "is_ticking": run.started_at is not None and run.finished_at is None,
        # The banner tells of a cancel, and nothing is waited for at an end.
        "reasons": [reason for reason in reasons if reason.code not in ("finished", "cancel")],
        "pause": _pause(run, found["stages"], titles, rights) if run.paused_at else None,
        "controls": controls(run, may_operate=rights.operate),
        "may_operate": rights.operate,
    }


def controls(run: AutomationRun, *, may_operate: bool) -> Controls:
    """A resume releases an operator's hold and no other, so it is offered only where there is one."""
    retry = may_operate and run.lifecycle in RETRYABLE and _left_undone(run) and not hasattr(run, "retried_by")
    is_open = may_operate and run.lifecycle not in TERMINAL and run.cancel_requested_at is None
    kinds = set(Hold.objects.covering([run.scope]).values_list("kind", flat=True)) if is_open else set()
    held, waits = Hold.Kind.OPERATOR in kinds, Hold.Kind.CAPACITY in kinds
    return Controls(pause=is_open and not held, resume=held, cancel=is_open, retry=retry, force=waits)


def _left_undone(run: AutomationRun) -> bool:
    return run.lifecycle == Lifecycle.FAILED or run.stages.filter(failures__isnull=False).exists()


def update(run_id: UUID, rights: Rights) -> Update | None:
    """The card as it is now, for the live stream; ``None`` if the run is gone."""
    run = AutomationRun.objects.with_leases().select_related("site").filter(pk=run_id).first()
    if run is None:
        return None
    found = context(run, rights)
    return Update(render_to_string("console/_card.html", found), page_version(found))


def page_version(found: dict[str, Any]) -> str:
    """Changes when a stage starts or ends or the status changes: then the rest of the page is worth a refresh."""
    facts = [found["status"], *(f"{stage['slug']}:{stage['status']}" for stage in found["stages"])]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:16]


def _at_work(lease: dict[str, Any], titles: dict[str, str], rights: Rights) -> dict[str, Any]:
    items = [payload_access.title_of(item["payload"], item["key"], is_shown=rights.payloads) for item in lease["items"]]
    return {
        "worker": processes.name_of(lease["worker"], lease["node"]),
        "stage": titles.get(lease["stage"], lease["stage"]),
        "item": items[0] if items else lease["item"],
        "next": items[1] if len(items) > 1 else "",
        "since": lease["item_since"],
        "limit": lease["item_limit"],
    }


def _pause(run: AutomationRun, stages: list[dict[str, Any]], titles: dict[str, str], rights: Rights) -> Pause | None:
    placed = ControlEvent.objects.of_scope(run.scope).filter(action="hold_placed").first()
    if placed is None or run.paused_at is None:
        return None
    in_flight = placed.details.get("in_flight", [])
    names = _names(in_flight) if rights.payloads else {}
    at_work = [
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
    return Pause(run.paused_at, placed.actor, placed.reason, at_work, starts, follows)


def _names(in_flight: list[dict[str, Any]]) -> dict[tuple[int, str], str]:
    """What people call the items of an event, by slice and key."""
    sources = dict(WorkSlice.objects.filter(pk__in=[entry["slice"] for entry in in_flight]).values_list("pk", "source"))
    wanted = {(sources.get(entry["slice"]), entry["item"]): (entry["slice"], entry["item"]) for entry in in_flight}
    chosen = Q(pk__in=[])
    for source, key in wanted:
        if source is not None and key is not None:
            chosen |= Q(made_by=source, key=key)
    found = WorkItem.objects.filter(chosen).values_list("made_by", "key", "payload")
    return {wanted[source, key]: title_of(payload, key) for source, key, payload in found}
