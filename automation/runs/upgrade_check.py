"""Finds unfinished runs that this code cannot finish; asked after an upgrade, before the resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from automation.errors import InvalidParams
from automation.gate import installed_code
from automation.gate.standstills import CODE_MISSING
from automation.models import AutomationRun, Lifecycle, StageRun
from automation.runs import unfit_params

PAGE = 500
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
