"""Finds unfinished runs that this code cannot finish; asked after an upgrade, before the resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from automation.errors import InvalidParams
from automation.gate import installed_code, lane_order
from automation.gate.standstills import CODE_MISSING
from automation.models import AutomationRun, Lifecycle, StageRun
from automation.models.tables import RUN
from automation.runs import unfit_params

PAGE = 500
MOST_LANES = 10
PARAMS_INVALID = InvalidParams.code


@dataclass(frozen=True)
class Finding:
    """A reason why this code cannot finish a run."""

    run: UUID
    pipeline: str
    stages: tuple[str, ...]
    """The stages that cannot run; empty if the run's parameters are the reason."""
    code: str
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """The finding for JSON."""
        return asdict(self) | {"run": str(self.run)}


class Places(NamedTuple):
    """Runs and places that do not match: it mends itself, but says why a run waits, or why more are active."""

    without: int
    """Running runs that hold no place in their lane and wait for one."""
    overfull: tuple[str, ...]
    """Lanes in which more runs hold a place than it has: they were made narrower, or come from an earlier release."""

    @property
    def sentences(self) -> list[str]:
        """What a person is told; nothing if all match."""
        told = []
        if self.without:
            runs = "1 run is" if self.without == 1 else f"{self.without:,} runs are"
            told.append(f"{runs} running without a place in the lane and will continue when one is free.")
        if self.overfull:
            lanes = ", ".join(self.overfull[:MOST_LANES]) + (" and more" if len(self.overfull) > MOST_LANES else "")
            verb = "has" if len(self.overfull) == 1 else "have"
            told.append(f"More runs are active than the width of the lane allows: {lanes} {verb} no place for others.")
        return told


def places() -> Places:
    """Compare the places of lanes with the runs that hold them. Two statements."""
    running = AutomationRun.objects.unfinished().filter(lifecycle=Lifecycle.RUNNING, cancel_requested_at__isnull=True)
    with connection.cursor() as cursor:
        cursor.execute(_OVERFULL)
        overfull = tuple(row[0] for row in cursor.fetchall())
    return Places(running.filter(lane_seat_at__isnull=True, paused_at__isnull=True).count(), overfull)


_OVERFULL = f"""
    SELECT run.lane FROM {RUN} AS run WHERE run.lane_seat_at IS NOT NULL
     GROUP BY run.lane HAVING count(*) > {lane_order.width("run.lane")} ORDER BY run.lane
"""


def unfinished() -> Iterator[tuple[AutomationRun, list[Finding]]]:
    """Yield every run that is neither final nor being cancelled, with its findings; a page at a time, by id."""
    runs = AutomationRun.objects.unfinished().filter(cancel_requested_at__isnull=True).order_by("pk")
    page = list(runs[:PAGE])
    while page:
        left: dict[UUID, list[StageRun]] = {run.pk: [] for run in page}
        stage_runs = StageRun.objects.filter(run__in=page, position__gte=0).exclude(lifecycle=Lifecycle.COMPLETED)
        for stage_run in stage_runs.order_by("run_id", "position"):
            left[stage_run.run_id].append(stage_run)
        for run in page:
            yield run, [*_of_code(run, left[run.pk]), *_of_params(run)]
        page = list(runs.filter(pk__gt=page[-1].pk)[:PAGE])


def _of_code(run: AutomationRun, stage_runs: Sequence[StageRun]) -> list[Finding]:
    by_sentence: dict[str, list[str]] = {}
    for stage_run in stage_runs:
        if not installed_code.is_here(run.pipeline, stage_run):
            by_sentence.setdefault(installed_code.missing(run.pipeline, stage_run), []).append(stage_run.slug)
    return [
        Finding(run.pk, run.pipeline, tuple(slugs), CODE_MISSING, sentence) for sentence, slugs in by_sentence.items()
    ]


def _of_params(run: AutomationRun) -> list[Finding]:
    try:
        installed_code.params_of(run)
    except InvalidParams as error:
        return [Finding(run.pk, run.pipeline, (), PARAMS_INVALID, unfit_params.sentence(run, error))]
    return []
