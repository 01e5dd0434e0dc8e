"""The code that this release has for the stages of runs: runs keep their stages, and code changes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from automation.models import AutomationRun, StageRun
from automation.pipeline import AnyStage, Pipeline, all_pipelines, definition, item_types
from automation.pipeline.definition import GROUP, ITEM
from automation.pipeline.params import AGENT
from automation.pipeline.stage import is_async as is_async_method

IS_HERE = f"(run.pipeline || '/' || stage.slug || '/' || {definition.INTERFACE}) = ANY(%(installed)s::text[])"
"""SQL over ``run`` and ``stage``: this release has code for the stage. ``installed`` is of :func:`keys`."""
IS_DECLARED = "(run.pipeline || '/' || stage.slug) = ANY(%(declared)s::text[])"
"""The same for a row that has no definition yet. ``declared`` is of :func:`names`."""

_TAKES = {
    ITEM: "takes items one by one",
    GROUP: "takes groups of items",
    AGENT: "is done by agents",
}


def _stages() -> Iterator[tuple[str, str, type[Pipeline], type[AnyStage]]]:
    """Every stage under every name that it and its pipeline have or had."""
    for pipeline in all_pipelines():
        for stage in pipeline.stages:
            for of in (pipeline.slug, *pipeline.formerly):
                for slug in (stage.slug, *stage.formerly):
                    yield of, slug, pipeline, stage


def keys() -> list[str]:
    """``pipeline/stage/interface`` of all that can be worked on."""
    return [f"{of}/{slug}/{definition.interface_of(stage)}" for of, slug, _, stage in _stages()]


def names() -> list[str]:
    """``pipeline/stage`` of all that is declared."""
    return [f"{of}/{slug}" for of, slug, _, _ in _stages()]


def pipeline_of(slug: str) -> type[Pipeline] | None:
    """The pipeline that has or had this slug."""
    return next((known for known in all_pipelines() if slug in (known.slug, *known.formerly)), None)


def aliases(slugs: Iterable[str]) -> list[str]:
    """Every name that the pipelines of these names have or had."""
    known = {slug: pipeline_of(slug) for slug in slugs}
    names = [name for one in known.values() if one is not None for name in (one.slug, *one.formerly)]
    return list(dict.fromkeys([*known, *names]))


def find(pipeline: str, slug: str) -> tuple[type[Pipeline], type[AnyStage]] | None:
    """What is declared under these names, whether or not it fits the run."""
    found = (known[2:] for known in _stages() if known[:2] == (pipeline, slug))
    return next(found, None)


def pipeline_title(slug: str) -> str:
    """What this release calls the pipeline; else its slug."""
    found = pipeline_of(slug)
    return found.title if found is not None else slug


def title_of(pipeline: str, slug: str) -> str:
    """What this release calls a stage whose row does not say: of runs that ended before rows did."""
    found = find(pipeline, slug)
    return found[1].title if found is not None else slug


def is_here(pipeline: str, stage_run: StageRun) -> bool:
    """Whether this release can work on ``stage_run``, whose run is one of ``pipeline``."""
    found = find(pipeline, stage_run.slug)
    kept = stage_run.definition or {}
    return found is not None and definition.interface_of(found[1]) == kept.get("interface")


def missing(pipeline: str, stage_run: StageRun) -> str:
    """The sentence that says what this release lacks."""
    if pipeline_of(pipeline) is None:
        return f"Pipeline {pipeline} is not in this release; it continues when it is, or cancel it."
    found = find(pipeline, stage_run.slug)
    name = f"Stage {stage_run.slug} of pipeline {pipeline}"
    if found is None:
        return f"{name} is not in this release; it continues when it is, or cancel it."
    if not stage_run.definition:
        return (
            f"{name} was created by an earlier release; it continues when the reconciler has taken it over, in seconds."
        )
    is_now, was = _TAKES[definition.interface_of(found[1])], _TAKES[stage_run.definition["interface"]]
    return (
        f"{name} {is_now} in this release, but this run's {was}; it continues with a release like that, or cancel it."
    )


def readers_of(stage_run: StageRun) -> list[item_types.Reader]:
    """The stages that read what ``stage_run`` makes and say what they take, as far as this release has their code."""
    pipeline = pipeline_of(stage_run.run.pipeline)
    if pipeline is None or not item_types.is_declared(pipeline):
        return []
    readers = []
    for row in StageRun.objects.filter(run=stage_run.run_id, position__gt=stage_run.position).order_by("position"):
        found = find(pipeline.slug, row.slug) if stage_run.slug in definition.of(row).after else None
        if found is not None and found[1].item_type is not None:
            readers.append((row.slug, item_types.of(found[1].item_type)))
    return readers


def is_async(stage_run: StageRun) -> bool:
    """Whether the code that this release has for ``stage_run`` is async."""
    found = find(stage_run.run.pipeline, stage_run.slug)
    return found is not None and is_async_method(inspect.unwrap(found[1].process))


def make(pipeline: str, stage_run: StageRun) -> AnyStage:
    """An instance of the stage's class with what its run was created with; ``LookupError`` if there is no such code."""
    found = find(pipeline, stage_run.slug)
    if found is None or not is_here(pipeline, stage_run):
        raise LookupError(missing(pipeline, stage_run))
    _, stage = found
    made = stage.__new__(stage)
    kept = definition.of(stage_run)
    for name in definition.OPTIONS:
        setattr(made, name, getattr(kept, name))
    made.__init__()  # type: ignore[misc]
    return made


def params_of(run: AutomationRun) -> dict[str, Any]:
    """The run's parameters as this release takes them; ``InvalidParams`` if it does not take them any more."""
    pipeline = pipeline_of(run.pipeline)
    return dict(run.params) if pipeline is None else pipeline.load_params(run.params)
