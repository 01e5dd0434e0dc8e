"""The rows of a run's stages and the only writer of their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import connection
from django.db.models.functions import Now

from automation.gate import installed_code
from automation.models import AutomationRun, Lifecycle, StageRun
from automation.models.tables import RUN, STAGE
from automation.pipeline import Pipeline, definition, pacing
from automation.pipeline.definition import INPUT, Definition

PAGE = 500


def create(run: AutomationRun, pipeline: type[Pipeline]) -> StageRun:
    """Create the rows of a new run from what ``pipeline`` declares; returns the row of its input."""
    return _create(run, [(stage.slug, definition.declared(pipeline, stage, run.params)) for stage in pipeline.stages])


def create_again(run: AutomationRun, olds: Sequence[StageRun]) -> StageRun:
    """Create the rows of a run with the stages of another, ``olds``, in their order; returns that of its input.

    The graph of stages is copied; everything else is as this release declares it, or as it was if it does not.
    Raises :class:`LookupError` with the slug of a stage that neither defines.
    """
    slugs = [old.slug for old in olds]
    defined = []
    for old in olds:
        kept = definition.of(old) if old.definition else None
        now = _of_code(run, old.slug, slugs, kept)
        if (one := now or kept) is None:
            raise LookupError(old.slug)
        defined.append((old.slug, one))
    return _create(run, defined)


def _create(run: AutomationRun, defined: Iterable[tuple[str, Definition]]) -> StageRun:
    source, *_ = StageRun.objects.bulk_create(
        [
            StageRun(
                run=run,
                slug=INPUT,
                position=-1,
                lifecycle=Lifecycle.COMPLETED,
                total_items=0,
                started_at=Now(),
                finished_at=Now(),
                definition={},
            ),
            *(
                StageRun(
                    run=run,
                    slug=slug,
                    position=index,
                    definition=definition.as_json(pacing.applied(one, slug, run.pacing)),
                )
                for index, (slug, one) in enumerate(defined)
            ),
        ]
    )
    return source


def _of_code(run: AutomationRun, slug: str, slugs: Sequence[str], kept: Definition | None) -> Definition | None:
    """The stage as this release declares it, between the stages ``slugs`` of a run."""
    found = installed_code.find(run.pipeline, slug)
    if found is None:
        return None
    now = definition.declared(*found, run.params)
    after = kept.after if kept is not None else _after(found[0], now, slugs, slug)
    return Definition(**{**vars(now), "after": after})


def _after(pipeline: type[Pipeline], now: Definition, slugs: Sequence[str], slug: str) -> tuple[str, ...]:
    """The predecessors by the names they have in the run; the stage before it if the run has other stages."""
    known_as = {stage.slug: {stage.slug, *stage.formerly} for stage in pipeline.stages}
    named = [next((one for one in slugs if one in known_as[name]), None) for name in now.after]
    if None not in named:
        return tuple(name for name in named if name is not None)
    index = slugs.index(slug)
    return (slugs[index - 1],) if index else ()


def define() -> int:
    """Define the stages that the previous release created while both were running; returns how many.

    Its rows have no definition, and do not run until they have one. Stages unknown to this release wait for one that
    knows them.
    """
    defined = 0
    while run_ids := _undefined():
        stage_runs = StageRun.objects.filter(run__in=run_ids, position__gte=0).select_related("run")
        by_run: dict[UUID, list[StageRun]] = {}
        for stage_run in stage_runs.order_by("run_id", "position"):
            by_run.setdefault(stage_run.run_id, []).append(stage_run)
        for rows in by_run.values():
            slugs = [row.slug for row in rows]
            for row in rows:
                now = _of_code(row.run, row.slug, slugs, None) if row.definition is None else None
                if now is not None:
                    undefined = StageRun.objects.filter(pk=row.pk, definition__isnull=True)
                    defined += undefined.update(definition=definition.as_json(now))
    return defined


def _undefined() -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(_UNDEFINED, {"declared": installed_code.names(), "page": PAGE})
        return [row[0] for row in cursor.fetchall()]


_UNDEFINED = f"""
    SELECT DISTINCT stage.run_id
      FROM (SELECT * FROM {STAGE} WHERE definition IS NULL AND position >= 0) AS stage
      JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE {installed_code.IS_DECLARED} LIMIT %(page)s
"""
