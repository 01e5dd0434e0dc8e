"""Why a run waits, or one that does not exist yet would: all reasons, the place in line, the expected start."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q

from automation import gate
from automation.gate import lane_order, resource_line
from automation.gate.place_in_line import position_of_new
from automation.models import AutomationRun, Site
from automation.pipeline import Pipeline, definition
from automation.pipeline.definition import Definition
from automation.reports import item_limits
from pause_manager import manager, times
from pause_manager.actor import SYSTEM
from pause_manager.holds import wording
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.observability import gate_health
from pause_manager.pause_queue import explanation as of_entry
from pause_manager.reasons import ORDER, Explanation, Reason, ReasonCode

CLOSED = ReasonCode.CLOSED
"""The code of a site that takes no new runs."""


def of_run(run: AutomationRun) -> Explanation:
    """The reasons of the gate and what limits leave out; the position in its lane, before a resource, or parked.

    A place that cannot be read is not told; the reasons say what cannot be read.
    """
    reasons = (*gate.explain(run), *item_limits.of(run))
    try:
        with gate_health.guarded_read("telemetry"):
            return Explanation(reasons, *_place(run, reasons))
    except Exception:
        return Explanation(reasons)


def _place(run: AutomationRun, reasons: tuple[Reason, ...]) -> tuple[int | None, datetime | None]:
    place = gate.place_in_line(run)
    if place.position is not None:
        return place.position, place.expected_start
    awaited = _resources(reasons)
    before = resource_line.place_of(run.pk, awaited) if awaited else None
    if before is not None:
        others = any(reason.keeps and _resource_of(reason) is None for reason in reasons)
        return before.position, None if others else before.expected_start
    entry = PauseQueueEntry.objects.waiting().light().filter(ref=run.scope).first()
    return of_entry.position(entry) if entry is not None else None, _end_of_delay(reasons)


def _end_of_delay(reasons: tuple[Reason, ...]) -> datetime | None:
    """When the first stage that waits begins, if nothing but delays keeps the run."""
    keeping = [reason for reason in reasons if reason.keeps]
    if any(reason.code != ReasonCode.DELAY for reason in keeping):
        return None
    return min((datetime.fromisoformat(reason.figures["starts_at"]) for reason in keeping), default=None)


def _resources(reasons: Iterable[Reason]) -> set[str]:
    """The resources that keep it."""
    return {name for reason in reasons if reason.keeps and (name := _resource_of(reason)) is not None}


def _resource_of(reason: Reason) -> str | None:
    if reason.code == ReasonCode.RESOURCE:
        return str(reason.figures["resource"])
    kind, _, name = str(reason.figures.get("scope", "")).partition(":")
    return name if kind == "resource" else None


def of_new_run(pipeline: type[Pipeline], site: Site) -> Explanation:
    """What a run of ``pipeline`` for ``site`` that is created now, with the usual priority, would wait for.

    A bounded number of statements, and one look at the samples of the nodes.
    """
    first = [stage for stage in pipeline.stages if not pipeline.predecessors(stage.slug)]
    stages = [definition.declared(pipeline, stage) for stage in first]
    reasons = [*_of_site(site), *_of_holds(pipeline, site, stages), *_of_lane(site), *_of_room(pipeline, stages)]
    reasons.sort(key=lambda reason: ORDER.index(reason.code))
    position = None
    if any(reason.code == lane_order.CODE for reason in reasons):
        position = position_of_new(site.slug)
    return Explanation(tuple(reasons), position)


def _of_site(site: Site) -> list[Reason]:
    since = next((at for at in (site.closed_at, site.account.closed_at) if at is not None), None)
    if since is None:
        return []
    sentence = f"Site {site.slug} was closed at {times.written(since)} and takes no new runs."
    return [Reason(CLOSED, sentence, since, SYSTEM.name, "nothing: it is closed for good")]


def _of_holds(pipeline: type[Pipeline], site: Site, stages: list[Definition]) -> list[Reason]:
    slugs = (pipeline.slug, *pipeline.formerly)
    covering = Q(scope__in=["fleet", f"lane:{site.slug}", *(f"pipeline:{slug}" for slug in slugs)])
    covering |= Q(scope__in=[f"queue:{stage.queue}" for stage in stages])
    covering |= Q(scope__in=[f"resource:{name}" for stage in stages for name in stage.uses])
    found = [*Hold.objects.active().filter(covering).order_by("created_at"), *gate.holds_of_all_nodes()]
    return [wording.reason_of(hold) for hold in found]


def _of_lane(site: Site) -> list[Reason]:
    ahead = lane_order.ahead_of_new(site.slug)
    if not ahead:
        return []
    figures = {"lane": site.slug, "runs": [str(one.id) for one in ahead]}
    lifted = "one of them ends, or the lane is made wider (manage.py lane)" if len(ahead) > 1 else "it ends"
    sentence = lane_order.sentence(site.slug, ahead).replace("It waits", "It would wait", 1)
    return [Reason(lane_order.CODE, sentence, None, SYSTEM.name, lifted, figures=figures)]


def _of_room(pipeline: type[Pipeline], stages: list[Definition]) -> list[Reason]:
    judge = manager.judge()
    reasons = []
    for stage in stages:
        if stage.is_for_agents:
            continue
        verdict = judge(stage.needs, pipeline.slug, stage.queue)
        if verdict.should_pause:
            lifted = "there is room, or an operator starts it anyway (resume_run --force)"
            sentence = f"{stage.title} would wait for room: {verdict.sentence}"
            figures = {"code": verdict.code, **verdict.figures}
            reasons.append(Reason(ReasonCode.CAPACITY, sentence, None, "capacity", lifted, figures=figures))
    return reasons
