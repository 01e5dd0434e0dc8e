"""The gate in words: every reason why a run may not proceed, in the order of ``ReasonCode``. What cannot be read
forbids, see ``observability.gate_health``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from uuid import UUID

from automation.gate import (
    delays,
    dependencies,
    file_sharing,
    idle_reasons,
    installed_code,
    lane_order,
    problems,
    resource_limits,
    standstills,
)
from automation.gate.idle_reasons import IdleReason
from automation.gate.problems import Problem
from automation.gate.reads import Reads
from automation.models import TERMINAL, AutomationRun, Lifecycle
from pause_manager.actor import SYSTEM
from pause_manager.holds import wording
from pause_manager.models import Hold
from pause_manager.observability import gate_health
from pause_manager.pause_queue import outlook
from pause_manager.reasons import ORDER, Reason, ReasonCode, may_proceed
from pause_manager.scopes import is_run

COPYING = ReasonCode.COPYING
"""The code of a retry whose items are not all there yet."""
UNREADABLE = ReasonCode.UNREADABLE
GIVES_WAY = ReasonCode.GIVES_WAY
"""The code of work that was asked to leave its node. The run continues."""


def explain(run: AutomationRun) -> list[Reason]:
    """Every reason why ``run`` may not proceed now, in the fixed order, why nobody does it, what of it is in trouble.

    Empty means that it may.
    """
    return explain_each([run])[run.pk]


def explain_each(runs: Iterable[AutomationRun]) -> dict[UUID, list[Reason]]:
    """:func:`explain` of each: each layer is read once for all. The statements grow with queues, not with runs."""
    known = list(runs)
    reads = Reads(run for run in known if run.lifecycle not in TERMINAL)
    found = {run.pk: _explain(run, reads) for run in known}
    _add_idle([run for run in known if run.lifecycle == Lifecycle.RUNNING], found)
    return found


def _add_idle(running: list[AutomationRun], found: dict[UUID, list[Reason]]) -> None:
    """What running runs wait for beside what keeps them, and what of them is in trouble."""
    if not running:
        return
    kept = [run for run in running if not may_proceed(found[run.pk])]
    waits = idle_reasons.of([run for run in running if run not in kept], kept)
    ids = [run.pk for run in running]
    yielding, troubles = problems.yielding(ids), problems.of(ids)
    for pk in ids:
        found[pk] += [_of_wait(wait) for wait in waits.get(pk, [])]
        found[pk] += [_of_yield(node, why) for node, why in yielding.get(pk, [])]
        found[pk] += [_of_trouble(trouble) for trouble in troubles.get(pk, [])]


def _explain(run: AutomationRun, reads: Reads) -> list[Reason]:
    if run.lifecycle in TERMINAL:
        return [
            Reason(
                ReasonCode.FINISHED, f"It is {run.lifecycle}.", run.finished_at, "system", "nothing: start a new run"
            )
        ]
    reasons = []
    if run.cancel_requested_at is not None:
        sentence = _of_cancel(run)
        reasons.append(
            Reason(
                ReasonCode.CANCEL,
                sentence,
                run.cancel_requested_at,
                run.cancel_requested_by,
                "nothing: a cancel is final",
            )
        )
    if run.copying is not None:
        sentence = f"Its items are still being copied from run {run.retry_of_id}: {run.total_items:,} so far."
        reasons.append(Reason(COPYING, sentence, run.created_at, SYSTEM.name, "they are all there, by itself"))
    reasons += _of_holds_and_order(run, reads)
    reasons += _of_code(run, reads)
    reasons += _of_files(run, reads)
    if run.lifecycle == Lifecycle.RUNNING:
        reasons += _of_overrides(reads)
        reasons += _of_resources(run, reads)
        reasons += _of_delays(run, reads)
    return reasons


def _of_cancel(run: AutomationRun) -> str:
    """What a cancel waits for."""
    waits = "It is being cancelled and ends when its workers have finished their items."
    try:
        with gate_health.guarded_read("telemetry"):
            deferred = idle_reasons.told_of_irreversible(idle_reasons.irreversible_at_work(run.pk))
    except Exception:
        return waits  # it is told by itself that much cannot be read
    return f"It is being cancelled. {deferred}" if deferred else waits


def _of_holds_and_order(run: AutomationRun, reads: Reads) -> list[Reason]:
    """Holds, dependencies and the lane, each read by itself; what cannot be read comes first."""
    unreadable: list[Reason] = []
    holds: list[Hold] = []
    judged: dict[str, Callable[[], list[Hold]]] = {"holds": lambda: reads.holds(run), "node": reads.holds_of_nodes}
    for layer, read in judged.items():
        try:
            holds += read()
        except Exception as error:
            unreadable.append(_unreadable(layer, error))
    ordered: list[tuple[str, datetime, Reason]] = [
        (wording.code_of(hold), hold.created_at, _of_capacity(hold) or wording.reason_of(hold)) for hold in holds
    ]
    for read_reasons in (_of_dependencies, _of_lane):
        for reason in read_reasons(run, reads):
            if reason.code == UNREADABLE:
                unreadable.append(reason)
            else:
                ordered.append((reason.code, reason.since or run.created_at, reason))
    ordered.sort(key=lambda one: (ORDER.index(one[0]), one[1]))
    return [*unreadable, *(reason for _, _, reason in ordered)]


def _of_dependencies(run: AutomationRun, reads: Reads) -> list[Reason]:
    """The runs that it is to wait for."""
    if run.started_at is not None:
        return []
    try:
        awaited = reads.awaited(run)
    except Exception as error:
        return [_unreadable("dependency", error)]
    return [
        Reason(dependencies.CODE, one.sentence, one.finished_at or one.created_at, SYSTEM.name, one.lifted_by)
        for one in awaited
    ]


def _of_lane(run: AutomationRun, reads: Reads) -> list[Reason]:
    """The runs of its lane that are before it. An order that cannot be read keeps nobody."""
    if run.lane_seat_at is not None:
        return []
    try:
        ahead = reads.ahead(run)
    except Exception as error:
        sentence = f"The order of its lane cannot be read ({type(error).__name__}); it is not waited for."
        return [Reason(UNREADABLE, sentence, None, SYSTEM.name, _READABLE, keeps=False)]
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


def _of_code(run: AutomationRun, reads: Reads) -> list[Reason]:
    """What of the code that it wants now this release does not have."""
    try:
        found = [one for one in reads.stages(run) if not installed_code.is_here(run.pipeline, one)]
        with gate_health.guarded_read("code"):
            since = standstills.since(run.pk, standstills.CODE_MISSING) if found else None
    except Exception as error:
        return [_unreadable("code", error)]
    sentences = dict.fromkeys(installed_code.missing(run.pipeline, stage_run) for stage_run in found)
    lifted = "a release that has it is installed"
    return [Reason(standstills.CODE_MISSING, sentence, since, SYSTEM.name, lifted) for sentence in sentences]


def _of_overrides(reads: Reads) -> list[Reason]:
    """Nothing, unless claims cannot read how many loops there may be."""
    try:
        reads.overrides()
    except Exception as error:
        return [_unreadable("overrides", error)]
    return []


def _of_resources(run: AutomationRun, reads: Reads) -> list[Reason]:
    """What resources have no place for, or too many starts of: the rule by which a claim counts."""
    try:
        waits = reads.resources(run)
    except Exception as error:
        return [_unreadable("resources", error)]
    code = resource_limits.LIMITED
    return [
        Reason(code, one.sentence, one.since, SYSTEM.name, one.lifted_by, keeps=one.keeps, figures=one.figures)
        for one in waits
    ]


def _of_delays(run: AutomationRun, reads: Reads) -> list[Reason]:
    """What begins later, between batches and between stages."""
    try:
        found = reads.delays(run)
    except Exception as error:
        return [_unreadable("delays", error)]
    return [
        Reason(
            delays.CODE,
            one.sentence,
            one.since,
            SYSTEM.name,
            "its time comes, by itself",
            figures={"stage": one.stage, "starts_at": one.starts_at.isoformat()},
        )
        for one in found
    ]


def _of_files(run: AutomationRun, reads: Reads) -> list[Reason]:
    """Whether those who may work on it have its files."""
    try:
        found = file_sharing.problem(run, reads.places_of_files())
        with gate_health.guarded_read("files"):
            since = standstills.since(run.pk, file_sharing.NOT_SHARED) if found else None
    except Exception as error:
        return [_unreadable("files", error)]
    return [Reason(file_sharing.NOT_SHARED, found, since, SYSTEM.name, file_sharing.LIFTED_BY)] if found else []


def _of_yield(node: str, why: str) -> Reason:
    lifted = "its worker has finished the current item; it continues where there is room"
    return Reason(GIVES_WAY, f"Work of it on {node} is to leave: {why}", None, SYSTEM.name, lifted, keeps=False)


def _of_wait(wait: IdleReason) -> Reason:
    return Reason(wait.code, wait.sentence, wait.since, SYSTEM.name, wait.lifted_by, keeps=False)


def _of_capacity(hold: Hold) -> Reason | None:
    """Why a run waits for room now, if a poll has looked since it was parked."""
    if hold.kind != Hold.Kind.CAPACITY or not is_run(hold.scope):
        return None
    now = outlook.of_ref(hold.scope)
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
        "delays": "The delays between its batches and stages",
    }
    known |= {"files": "The place of its files", "resources": "The limits of its resources"}
    what = {**known, "overrides": "The limits of its loops"}[layer]
    sentence = f"{what} cannot be read ({type(error).__name__})."
    return Reason(UNREADABLE, sentence, None, SYSTEM.name, _READABLE)
