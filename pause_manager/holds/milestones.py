"""When the work under a hold had drained, and when work resumed after it: noted once per hold, with event and details.

The notes are times and counts, and change nothing that is held. The app that has runs looks after the hold of a run.
Those on more (fleet, queue, pipeline, node) are looked after here, by what the workloads have in progress under them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import F

from pause_manager import workloads
from pause_manager.actor import SYSTEM
from pause_manager.models import ControlEvent, Hold
from pause_manager.observability import audit, metrics
from pause_manager.scopes import RUNS, is_run
from pause_manager.workloads import Counts, HoldChange

DRAIN_SECONDS = metrics.histogram(
    "slackwater_pause_settle_seconds",
    "Time from a hold on work that was running until the last of it had stopped, by scope, kind and mode of the hold.",
    ("scope", "kind", "mode"),
    metrics.LONG_SECONDS,
)
RESUME_SECONDS = metrics.histogram(
    "slackwater_resume_seconds",
    "Time from the release of a hold to the first work after it, by scope and kind of the hold.",
    ("scope", "kind"),
    metrics.LONG_SECONDS,
)

# A transaction that has a hold locked is changing it: a note waits for nobody, so that nobody can wait for it in turn.
_NOTE = f"""
    UPDATE {Hold._meta.db_table} AS hold SET {{noted}} = statement_timestamp()
      FROM (SELECT id FROM {Hold._meta.db_table} WHERE {{due}} AND scope = ANY(%s)
             ORDER BY id FOR UPDATE SKIP LOCKED) AS due
     WHERE hold.id = due.id
 RETURNING hold.scope, hold.id, hold.kind, hold.mode,
           round(extract(epoch FROM statement_timestamp() - hold.{{since}}), 3)::float, hold.stopped
"""
_DRAINED = _NOTE.format(noted="drained_at", due="released_at IS NULL AND drained_at IS NULL", since="created_at")
_RESUMED = _NOTE.format(
    noted="work_resumed_at", due="released_at IS NOT NULL AND work_resumed_at IS NULL", since="released_at"
)


@dataclass(frozen=True)
class Milestone:
    """A hold that has reached one, ``seconds`` after it was placed or released."""

    scope: str
    hold: int
    kind: str
    mode: str
    seconds: float
    stopped: int = 0
    """Tasks that workers had in hand when they began to obey it."""


def detect_drained(scopes: Collection[str] | None = None) -> int:
    """Note which holds on more than a run (of ``scopes``, or all) have no work in progress any more; returns how many.

    While a scope is held nothing of it starts, so what has drained stays so. One statement if nothing is due.
    """
    due = Hold.objects.active().filter(drained_at__isnull=True).exclude(scope__startswith=RUNS)
    if scopes is not None:
        due = due.filter(scope__in=list(scopes))
    not_drained = set(due.values_list("scope", flat=True))
    if not not_drained:
        return 0
    busy = workloads.in_progress(not_drained).keys() | workloads.unreported(not_drained)
    return note_drained([scope for scope in not_drained if scope not in busy])


def note_drained(scopes: Sequence[str], *, had_work: bool = True) -> int:
    """Note, once per hold, that nothing of ``scopes`` is in progress any more; returns for how many holds it was new.

    How long it took is measured and recorded, unless nothing was in progress in the first place: ``had_work`` says so
    of runs, and the counts taken when the hold was placed say so of other scopes.
    """
    if not scopes:
        return 0
    with transaction.atomic():
        noted = _noted(_DRAINED, scopes)
        stopped = _that_stopped(noted, had_work)
        _record("settled", stopped, "All work under this hold has stopped.")
    for one, _ in stopped:
        _observe(DRAIN_SECONDS, one, mode=one.mode)
    return len(noted)


def note_work_resumed(scopes: Sequence[str]) -> int:
    """Note, once per hold, that the first work under ``scopes`` after its release has begun; returns for how many.

    Where several were released, work waited for the last of them only, and that is measured. A hold on more than a run
    that had stopped nothing is neither measured nor recorded: nothing need have waited for its end.
    """
    with transaction.atomic():
        noted = _noted(_RESUMED, scopes)
        stopped = _that_stopped(noted)
        _record("went_on", stopped, "Work resumed after the release.")
    if stopped:
        _observe(RESUME_SECONDS, min((one for one, _ in stopped), key=lambda one: one.seconds))
    return len(noted)


def note_stopped_tasks(counts: Mapping[str, int]) -> None:
    """Note how many tasks a worker has in hand, by scope, when it begins to obey the holds on these scopes."""
    for scope, count in counts.items():
        Hold.objects.covering([scope]).filter(drained_at=None).update(stopped=F("stopped") + count)


def _noted(statement: str, scopes: Sequence[str]) -> list[Milestone]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [sorted(set(scopes))])
        return [Milestone(*row) for row in cursor.fetchall()]


def _that_stopped(noted: Sequence[Milestone], had_work: bool = True) -> list[tuple[Milestone, Counts]]:
    """Those of the holds that have stopped something, each with what was in progress when it was placed."""
    wide = [one for one in noted if not is_run(one.scope)]
    counts: dict[int, Counts] = {}
    if wide:
        placed = ControlEvent.objects.filter(action="hold_placed", scope__in={one.scope for one in wide})
        of_these = placed.filter(details__hold__in=[one.hold for one in wide])
        counts = {details["hold"]: details.get("at_hand", {}) for details in of_these.values_list("details", flat=True)}
    for one in wide:
        if one.stopped:
            counts[one.hold] = {**counts.get(one.hold, {}), "tasks": one.stopped}
    return [
        (one, counts.get(one.hold, {})) for one in noted if (had_work if is_run(one.scope) else counts.get(one.hold))
    ]


def _record(action: str, stopped: Sequence[tuple[Milestone, Counts]], reason: str) -> None:
    if stopped:
        known = [
            (one.scope, {"hold": one.hold, "kind": one.kind, "mode": one.mode, "seconds": one.seconds, **counts})
            for one, counts in stopped
        ]
        audit.record_each(action, known, actor=SYSTEM, reason=reason)


def _observe(measure: metrics.Histogram, one: Milestone, **labels: str) -> None:
    subject = one.scope.partition(":")[0]
    transaction.on_commit(lambda: measure.observe(one.seconds, scope=subject, kind=one.kind, **labels), robust=True)


def count_in_progress(change: HoldChange) -> None:
    """Add to the event what a hold on more than a run finds in progress; look again when it is in force."""
    wide = [scope for scope in change.scopes if not is_run(scope)]
    if change.what == "placed" and wide:
        metrics.guarded(_add_counts)(wide, change.details)
        transaction.on_commit(lambda: metrics.guarded(detect_drained)(wide), robust=True)


def _add_counts(scopes: list[str], details: dict[str, dict[str, object]]) -> None:
    # A failure here must not break the transaction that places the hold.
    with transaction.atomic():
        for scope, counts in workloads.in_progress(scopes).items():
            details.setdefault(scope, {})["at_hand"] = counts
