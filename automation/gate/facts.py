"""What the gate reads to explain runs: each layer by itself, with one look for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from automation.gate import dependencies, file_sharing, installed_code, lane_order, resource_limits, standstills
from automation.gate.dependencies import Awaited
from automation.gate.lane_order import Ahead
from automation.gate.predicate import holds_of_all_nodes, scopes_with
from automation.gate.resource_limits import Wait
from automation.models import AutomationRun, Lifecycle, StageRun
from pause_manager.models import Hold
from pause_manager.observability import gate_health
from pause_manager.pause_queue import outlook
from pause_manager.pause_queue.outlook import Outlook
from pause_manager.scopes import is_run

Found = TypeVar("Found")
Layer = Mapping[UUID, Found] | Exception
"""What a layer says of each run; the error, if it could not be read."""


@dataclass(frozen=True)
class Missing:
    """What this release does not have of a run, in sentences, and since when that is known."""

    sentences: Sequence[str]
    since: datetime | None


@dataclass(frozen=True)
class Facts:
    """All layers, for the runs that were asked for."""

    holds: Layer[list[Hold]]
    nodes: list[Hold] | Exception
    """The holds on all live nodes, if there is no live node without one."""
    outlooks: Mapping[str, Outlook]
    """By scope, why what waits for room does."""
    awaited: Layer[list[Awaited]]
    ahead: Layer[list[Ahead]]
    missing: Layer[Missing]
    apart: Layer[Missing]
    resources: Layer[list[Wait]]


def read(runs: Sequence[AutomationRun]) -> Facts:
    """Read every layer for ``runs``, which are unfinished. The number of statements does not grow with them."""
    holds = guarded("holds", lambda: _holds(runs))
    unstarted = [run.pk for run in runs if run.started_at is None]
    without_place = [run.pk for run in runs if run.lane_seat_at is None]
    running = [run.pk for run in runs if run.lifecycle == Lifecycle.RUNNING]
    return Facts(
        holds=holds,
        nodes=guarded("node", holds_of_all_nodes),
        outlooks=_outlooks(holds),
        awaited=guarded("dependency", lambda: dependencies.awaited_by(unstarted)) if unstarted else {},
        ahead=guarded("lane", lambda: lane_order.ahead_of(without_place)) if without_place else {},
        missing=guarded("code", lambda: _missing(runs)),
        apart=guarded("files", lambda: _apart(runs)),
        resources=guarded("resources", lambda: resource_limits.waits_of(running)) if running else {},
    )


def guarded(layer: str, how: Callable[[], Found]) -> Found | Exception:
    """What ``how`` reads of ``layer``, or its error, which is logged and counted."""
    try:
        with gate_health.guarded_read(layer):
            return how()
    except Exception as error:
        return error


def _current(runs: Sequence[AutomationRun]) -> dict[UUID, list[StageRun]]:
    current: dict[UUID, list[StageRun]] = {run.pk: [] for run in runs}
    for stage_run in StageRun.objects.filter(run__in=list(current)).current():
        current[stage_run.run_id].append(stage_run)
    return current


def _holds(runs: Sequence[AutomationRun]) -> dict[UUID, list[Hold]]:
    current = _current(runs)
    covering = {run.pk: set(scopes_with(run, current[run.pk])) for run in runs}
    holds = list(Hold.objects.covering({scope for some in covering.values() for scope in some}))
    return {pk: [hold for hold in holds if hold.scope in some] for pk, some in covering.items()}


def _outlooks(holds: Layer[list[Hold]]) -> Mapping[str, Outlook]:
    if isinstance(holds, Exception):
        return {}
    every = (hold for some in holds.values() for hold in some)
    return outlook.of_refs({hold.scope for hold in every if hold.kind == Hold.Kind.CAPACITY and is_run(hold.scope)})


def _missing(runs: Sequence[AutomationRun]) -> dict[UUID, Missing]:
    current = _current(runs)
    sentences: dict[UUID, list[str]] = {}
    for run in runs:
        absent = [one for one in current[run.pk] if not installed_code.is_here(run.pipeline, one)]
        if absent:
            sentences[run.pk] = list(dict.fromkeys(installed_code.missing(run.pipeline, one) for one in absent))
    since = standstills.since(sentences, standstills.CODE_MISSING) if sentences else {}
    return {pk: Missing(some, since.get(pk)) for pk, some in sentences.items()}


def _apart(runs: Sequence[AutomationRun]) -> dict[UUID, Missing]:
    live = file_sharing.told()
    found = {run.pk: [told] for run in runs if (told := file_sharing.problem(run, live)) is not None}
    since = standstills.since(found, file_sharing.NOT_SHARED) if found else {}
    return {pk: Missing(some, since.get(pk)) for pk, some in found.items()}
