"""What the card says of the holds in force, of the end of the run, and of what a cancel leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone

from automation.gate import Reason, idle_reasons
from automation.models import TERMINAL, AutomationRun, Lifecycle
from automation.reports import estimates
from automation.runs import start_conditions
from backend.console.runs.rows import PEOPLE_LIFT
from pause_manager.console import links
from pause_manager.models import Hold


@dataclass(frozen=True)
class HoldLine:
    """One hold in force, with its own sentence, beginning and actor, and what lifts it."""

    sentence: str
    since: datetime | None
    lifted_by: str
    is_of_people: bool
    """A person must end it; else it ends by itself."""
    verb: str = ""
    button: str = ""
    url: str = ""
    link: str = ""


def holds_of(run: AutomationRun, reasons: Sequence[Reason], *, may_operate: bool) -> list[HoldLine]:
    """The holds among ``reasons``, in their order."""
    return [_line(run, reason, may_operate=may_operate) for reason in reasons if is_hold(reason)]


def is_hold(reason: Reason) -> bool:
    """Whether a reason is a hold in force, which the banner tells."""
    return "scope" in reason.figures and "kind" in reason.figures


def _line(run: AutomationRun, reason: Reason, *, may_operate: bool) -> HoldLine:
    scope, kind = reason.figures["scope"], reason.figures["kind"]
    verb, button = _lifts(kind) if scope == run.scope and may_operate else ("", "")
    found = links.of(scope) if scope != run.scope else links.Link("")
    url, link = (found.url, found.title) if found.url else ("", "")
    if scope.partition(":")[0] in ("fleet", "node"):
        url, link = reverse("console:fleet"), "Fleet"
    if kind == Hold.Kind.NEEDS_INPUT:
        url, link = "#questions-title", "Answer"
    told = (reason.sentence, reason.since, reason.lifted_by, reason.code in PEOPLE_LIFT)
    return HoldLine(*told, verb, button, url, link)


def _lifts(kind: str) -> tuple[str, str]:
    if kind == Hold.Kind.OPERATOR or kind in start_conditions.kinds():
        return "resume", "Resume"
    return ("force", "Start anyway") if kind == Hold.Kind.CAPACITY else ("", "")


@dataclass(frozen=True)
class Ending:
    """When the run is expected to be done; ``unknown`` says why that is not known."""

    at: datetime | None = None
    unknown: str = ""


def ending_of(run: AutomationRun, now: str, stages: Sequence[dict[str, Any]], reasons: Sequence[Reason]) -> Ending:
    """From the rates of its running stages, and from earlier runs for those that have not started."""
    if run.lifecycle in TERMINAL or run.cancel_requested_at is not None:
        return Ending()
    if any(reason.keeps for reason in reasons) or now != Lifecycle.RUNNING:
        return Ending(unknown="its end is not known while it waits")
    running = [stage for stage in stages if stage["is_current"]]
    pending = [stage for stage in stages if stage["status"] == Lifecycle.PENDING]
    if not running or any(stage["eta_seconds"] is None for stage in running):
        return Ending(unknown="its end is not known yet")
    seconds = max(stage["eta_seconds"] for stage in running)
    if pending:
        measured = estimates.of_items(run.site, run.pipeline, run.total_items)["stages"]
        known = {stage["slug"]: stage["seconds"] for stage in measured if stage["seconds"] is not None}
        lacking = [stage for stage in pending if stage["slug"] not in known]
        if lacking:
            few = "one stage has" if len(lacking) == 1 else f"{len(lacking)} stages have"
            return Ending(unknown=f"its end is not known: {few} not started")
        seconds += sum(known[stage["slug"]] for stage in pending)
    return Ending(timezone.now() + timedelta(seconds=seconds))


def left_of(run: AutomationRun, stages: Sequence[dict[str, Any]]) -> str:
    """What a cancel leaves out, and which stage ends its item first, in a sentence."""
    parts = []
    for stage in stages:
        if stage["status"] == Lifecycle.PENDING:
            parts.append(f"{stage['title']} will not start")
        elif stage["is_current"] and stage["remaining_count"]:
            of = f"{stage['remaining_count']:,} of {stage['total_items']:,}"
            parts.append(f"{stage['title']}: {of} items will not run")
    told = f"{'; '.join(parts)}." if parts else ""
    irreversible = idle_reasons.told_of_irreversible(idle_reasons.irreversible_at_work(run.pk))
    return f"{told} {irreversible}".strip()
