"""The gate in words: every reason why a run may not proceed, in a fixed order. What cannot be read forbids, see
``observability.gate_health``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from automation.gate import (
    dependencies,
    facts,
    file_sharing,
    idle_reasons,
    lane_order,
    problems,
    resource_limits,
    standstills,
)
from automation.gate.facts import Facts, Layer, Missing
from automation.gate.idle_reasons import IdleReason
from automation.gate.problems import Problem
from automation.models import TERMINAL, AutomationRun, Lifecycle, WorkSlice
from pause_manager.actor import SYSTEM
from pause_manager.holds import wording
from pause_manager.models import Hold
from pause_manager.pause_queue import outlook
from pause_manager.reasons import Reason, ReasonCode, may_proceed

ORDER = (
    ReasonCode.FLEET,
    ReasonCode.FREEZE,
    ReasonCode.DEPENDENCY,
    ReasonCode.OPERATOR,
    ReasonCode.WINDOW,
    ReasonCode.LANE,
    ReasonCode.NODE,
    ReasonCode.BUDGET,
    ReasonCode.NEEDS_INPUT,
    ReasonCode.THROTTLED,
    ReasonCode.RESOURCE,
    ReasonCode.CAPACITY,
    ReasonCode.CODE_MISSING,
    ReasonCode.FILES_NOT_SHARED,
)
"""The order in which reasons are told; the first is the one a list shows."""
COPYING = ReasonCode.COPYING
"""The code of a retry whose items are not all there yet."""
UNREADABLE = ReasonCode.UNREADABLE
INSTALLED = "a release that has it is installed"
GIVES_WAY = ReasonCode.GIVES_WAY
"""The code of work that was asked to leave its node. The run continues."""


def explain(run: AutomationRun) -> list[Reason]:
    """Every reason why ``run`` may not proceed now, in the fixed order, why nobody does it, what of it is in trouble.

    Empty means that it may.
    """
    return explain_each([run])[run.pk]


def explain_each(runs: Iterable[AutomationRun]) -> dict[UUID, list[Reason]]:
    """The same for each of ``runs``. The statements grow with queues and agents, not with runs."""
    listed = list(runs)
    found = {run.pk: [_of_end(run)] for run in listed if run.lifecycle in TERMINAL}
    unfinished = [run for run in listed if run.pk not in found]
    if not unfinished:
        return found
    read = facts.read(unfinished)
    cancelled = _of_cancels([run for run in unfinished if run.cancel_requested_at is not None])
    for run in unfinished:
        reasons = [*cancelled.get(run.pk, [])]
        if run.copying is not None:
            sentence = f"Its items are still being copied from run {run.retry_of_id}: {run.total_items:,} so far."
            reasons.append(Reason(COPYING, sentence, run.created_at, SYSTEM.name, "they are all there, by itself"))
        reasons += _of_holds_and_order(run, read)
        reasons += _of_missing(run, read.missing, "code", standstills.CODE_MISSING, INSTALLED)
        reasons += _of_missing(run, read.apart, "files", file_sharing.NOT_SHARED, file_sharing.LIFTED_BY)
        reasons += _of_resources(run, read)
        found[run.pk] = reasons
    _add_idle([run for run in unfinished if run.lifecycle == Lifecycle.RUNNING], found)
    return found


def _add_idle(running: list[AutomationRun], found: dict[UUID, list[Reason]]) -> None:
    """What running runs wait for beside what keeps them, and what of them is in trouble."""
    if not running:
        return
    kept = [run for run in running if not may_proceed(found[run.pk])]
    waits = idle_reasons.of([run for run in running if run not in kept], kept)
    ids = [run.pk for run in running]
    yielding, troubles = _yielding(ids), problems.of(ids)
    for pk in ids:
        found[pk] += [_of_wait(wait) for wait in waits.get(pk, [])]
        found[pk] += [_of_yield(node, why) for node, why in yielding.get(pk, [])]
        found[pk] += [_of_trouble(trouble) for trouble in troubles.get(pk, [])]


def _of_end(run: AutomationRun) -> Reason:
    sentence = f"It is {run.lifecycle}."
    return Reason(ReasonCode.FINISHED, sentence, run.finished_at, "system", "nothing: start a new run")


def _of_cancels(cancelled: list[AutomationRun]) -> dict[UUID, list[Reason]]:
    """What the cancel of each waits for."""
    if not cancelled:
        return {}
    waits = "It is being cancelled and ends when its workers have finished their items."
    # Where that cannot be read, other layers say so.
    slugs = facts.guarded("telemetry", lambda: idle_reasons.irreversible_of([run.pk for run in cancelled]))
    found = {}
    for run in cancelled:
        at_work = [] if isinstance(slugs, Exception) else slugs.get(run.pk, [])
        deferred = idle_reasons.told_of_irreversible(at_work)
        sentence = f"It is being cancelled. {deferred}" if deferred else waits
        lifted = "nothing: a cancel is final"
        reason = Reason(ReasonCode.CANCEL, sentence, run.cancel_requested_at, run.cancel_requested_by, lifted)
        found[run.pk] = [reason]
    return found


def _of_holds_and_order(run: AutomationRun, read: Facts) -> list[Reason]:
    """Holds, dependencies and the lane, each read by itself; what cannot be read comes first."""
    unreadable: list[Reason] = []
    holds: list[Hold] = []
    for layer, found in (("holds", read.holds), ("node", read.nodes)):
        if isinstance(found, Exception):
            unreadable.append(_unreadable(layer, found))
        else:
            holds += found if isinstance(found, list) else found.get(run.pk, [])
    ordered: list[tuple[str, datetime, Reason]] = [
        (wording.code_of(hold), hold.created_at, _of_capacity(hold, read) or wording.reason_of(hold)) for hold in holds
    ]
    for read_reasons in (_of_dependencies, _of_lane):
        for reason in read_reasons(run, read):
            if reason.code == UNREADABLE:
                unreadable.append(reason)
            else:
                ordered.append((reason.code, reason.since or run.created_at, reason))
    ordered.sort(key=lambda one: (ORDER.index(ReasonCode(one[0])), one[1]))
    return [*unreadable, *(reason for _, _, reason in ordered)]


def _of_dependencies(run: AutomationRun, read: Facts) -> list[Reason]:
    """The runs that it is to wait for."""
    if run.started_at is not None:
        return []
    if isinstance(read.awaited, Exception):
        return [_unreadable("dependency", read.awaited)]
    return [
        Reason(dependencies.CODE, one.sentence, one.finished_at or one.created_at, SYSTEM.name, one.lifted_by)
        for one in read.awaited.get(run.pk, [])
    ]


def _of_lane(run: AutomationRun, read: Facts) -> list[Reason]:
    """The runs of its lane that are before it. An order that cannot be read keeps nobody."""
    if run.lane_seat_at is not None:
        return []
    if isinstance(read.ahead, Exception):
        sentence = f"The order of its lane cannot be read ({type(read.ahead).__name__}); it is not waited for."
        return [Reason(UNREADABLE, sentence, None, SYSTEM.name, _READABLE, keeps=False)]
    ahead = read.ahead.get(run.pk)
    if not ahead:
        return []
    lifted = "one of them ends" if len(ahead) > 1 else "it ends"
    lifted += ", or this run is moved before those that have no place yet, or the lane is made wider (manage.py lane)"
    return [
        Reason(
            lane_order.CODE,
            lane_order.sentence(run.lane, ahead),
            lane_order.since(run),
            SYSTEM.name,
            lifted,
            figures={"lane": run.lane, "runs": [str(one.id) for one in ahead]},
        )
    ]


def _of_trouble(trouble: Problem) -> Reason:
    return Reason(trouble.code, trouble.sentence, trouble.since, SYSTEM.name, trouble.lifted_by, keeps=False)


def _of_missing(run: AutomationRun, read: Layer[Missing], layer: str, code: str, lifted: str) -> list[Reason]:
    """What of the code that it wants now this release does not have; or that those who live do not share its files."""
    if isinstance(read, Exception):
        return [_unreadable(layer, read)]
    found = read.get(run.pk)
    if found is None:
        return []
    return [Reason(code, sentence, found.since, SYSTEM.name, lifted) for sentence in found.sentences]


def _of_resources(run: AutomationRun, read: Facts) -> list[Reason]:
    """What resources have no place for, or too many starts of: the rule by which a claim counts."""
    if run.lifecycle != Lifecycle.RUNNING:
        return []
    if isinstance(read.resources, Exception):
        return [_unreadable("resources", read.resources)]
    code, waits = resource_limits.LIMITED, read.resources.get(run.pk, [])
    return [
        Reason(code, one.sentence, one.since, SYSTEM.name, one.lifted_by, keeps=one.keeps, figures=one.figures)
        for one in waits
    ]


def _yielding(run_ids: list[UUID]) -> dict[UUID, list[tuple[str, str]]]:
    """By run, (node, why) of what was asked to leave its node and has not yet."""
    asked = WorkSlice.objects.leased().filter(stage_run__run__in=run_ids).exclude(lease_yield="")
    found: dict[UUID, list[tuple[str, str]]] = {}
    rows = asked.order_by("lease_node").values_list("stage_run__run", "lease_node", "lease_yield").distinct()
    for pk, node, why in rows:
        found.setdefault(pk, []).append((node, why))
    return found


def _of_yield(node: str, why: str) -> Reason:
    lifted = "its worker has finished the current item; it continues where there is room"
    return Reason(GIVES_WAY, f"Work of it on {node} is to leave: {why}", None, SYSTEM.name, lifted, keeps=False)


def _of_wait(wait: IdleReason) -> Reason:
    return Reason(wait.code, wait.sentence, wait.since, SYSTEM.name, wait.lifted_by, keeps=False)


def _of_capacity(hold: Hold, read: Facts) -> Reason | None:
    """Why a run waits for room now, if a poll has looked since it was parked."""
    now = read.outlooks.get(hold.scope) if hold.kind == Hold.Kind.CAPACITY else None
    if now is None:
        return None
    if now.code == outlook.NO_WORKER:
        lifted = "a worker is started that serves it, or an operator starts it anyway (resume_run --force)"
        return Reason(now.code, now.sentence, hold.created_at, hold.actor, lifted)
    return Reason(ReasonCode.CAPACITY, f"It waits for room: {now.sentence}", hold.created_at, hold.actor, wording.ROOM)


_READABLE = "it can be read again; see the log and /readyz"


def _unreadable(layer: str, error: Exception) -> Reason:
    """What cannot be judged forbids, and says so; the other layers keep their verdicts."""
    known = {
        "holds": "Its holds",
        "node": "The holds on nodes",
        "code": "Its current stages",
        "dependency": "The runs that it depends on",
    }
    what = {**known, "files": "The place of its files", "resources": "The limits of its resources"}[layer]
    sentence = f"{what} cannot be read ({type(error).__name__})."
    return Reason(UNREADABLE, sentence, None, SYSTEM.name, _READABLE)
