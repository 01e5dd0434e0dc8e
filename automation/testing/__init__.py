"""Run a stage or a whole pipeline in this process: for unit tests and ``manage.py try_pipeline``.

It takes no server, no database and no settings::

    from automation.testing import run_stage

    def test_shout():
        result = run_stage(Shout, [{"text": "hi"}])

        assert result.outputs == [{"text": "HI"}]
        assert not result.failures

Stages are called as a worker calls them: hooks, groups, retries (without the waits in between), declared items,
checkpoints, and outputs as JSON. What takes several processes is not tried: time limits, leases, capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from automation.conf import AutomationSettings
from automation.errors import InvalidInput
from automation.items import keys
from automation.pipeline import AnyStage, Payload, Pipeline, item_types
from automation.pipeline.checks import check_pipeline
from automation.pipeline.payloads import UnfitPayload, encode
from automation.testing.memory_artifacts import MemoryArtifacts
from automation.testing.results import Failure, Item, Question, StageResult
from automation.testing.trial import Trial, make_context

__all__ = [
    "Failure",
    "MemoryArtifacts",
    "PipelineResult",
    "Question",
    "StageResult",
    "make_context",
    "run_pipeline",
    "run_stage",
]


@dataclass
class PipelineResult:
    """What became of a run: its stages by slug, in order. A stage is missing if the run had failed before it."""

    stages: dict[str, StageResult]
    files: dict[str, bytes]
    """What ``ctx.artifacts`` holds, by its name in storage."""

    @property
    def outputs(self) -> list[Payload]:
        """Those of the last stage that ran."""
        return list(self.stages.values())[-1].outputs

    @property
    def questions(self) -> list[Question]:
        """All that was asked."""
        return [question for stage in self.stages.values() for question in stage.questions]

    @property
    def frozen(self) -> str:
        """Why a stage froze the lane; empty if none did."""
        return next((stage.frozen for stage in self.stages.values() if stage.frozen), "")

    @property
    def failures(self) -> list[Failure]:
        return [failure for stage in self.stages.values() for failure in stage.failures]


def run_stage(
    stage: type[AnyStage],
    items: Iterable[Any],
    *,
    params: Mapping[str, Any] | None = None,
    files: dict[str, bytes] | None = None,
    stop_at_checkpoint: int | None = None,
    resume: StageResult | None = None,
    sleep: Callable[[float], None] = lambda seconds: None,
    answer: Callable[[Question], str | None] | None = None,
) -> StageResult:
    """Run ``stage`` over ``items`` (dicts, or objects of its ``item_type``).

    ``params`` are handed over as they are. ``files`` is what ``ctx.artifacts`` holds, by name in storage, and gets what
    is saved. With ``stop_at_checkpoint`` the run is paused at that ``ctx.checkpoint``, counted from 1; ``resume`` goes
    on where such a result ended. ``answer(question)`` is the person who is asked (``NeedsInput``); without it, or where
    it returns ``None``, the stage stops there, as it does when it freezes its lane.

    Raises ``PipelineError`` if the stage is declared wrongly, ``InvalidInput`` for items that it cannot take.
    """
    first = type(stage.__name__, (stage,), {"after": None})
    alone = type("Alone", (Pipeline,), {"slug": "alone", "title": "Alone", "stages": (first,)})
    check_pipeline(alone, {})
    given = _input(alone, items)
    trial = Trial(stage, [given], params or {}, {} if files is None else files, sleep=sleep, answer=answer)
    trial.stop_at_checkpoint = stop_at_checkpoint
    if resume is not None:
        trial.resume(resume)
    return trial.run()


def run_pipeline(
    pipeline: type[Pipeline],
    items: Iterable[Any] | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    limit: int | None = None,
    sleep: Callable[[float], None] = lambda seconds: None,
    answer: Callable[[Question], str | None] | None = None,
) -> PipelineResult:
    """Run all stages of ``pipeline`` over ``items``, or over those that it makes itself; ``limit`` of them at most.

    ``answer`` is as in :func:`run_stage`; where nobody answers, or the lane is frozen, the run stops.

    Raises ``InvalidParams`` or ``InvalidInput`` as the creation of a run does.
    """
    cleaned = pipeline.clean_params(params or {})
    if pipeline.needs_input and items is None:
        raise InvalidInput(f"Cannot run {pipeline.slug}: it needs input items, got none.")
    if not pipeline.needs_input and items is not None:
        raise InvalidInput(f"Cannot run {pipeline.slug}: it makes its own items and takes no input.")
    given = pipeline.make_items(cleaned) if items is None else items
    source = _input(pipeline, islice(given, limit))
    result = PipelineResult({}, {})
    for stage in pipeline.stages:
        before = pipeline.predecessors(stage.slug)
        made = [result.stages[slug].made for slug in before] if before else [source]
        if len(made) > 1:
            made = [[(keys.of_source(n) + key, item) for key, item in items] for n, items in enumerate(made)]
        readers = [
            (one.slug, item_types.of(one.item_type))
            for one in pipeline.stages
            if one.item_type is not None and stage.slug in pipeline.predecessors(one.slug)
        ]
        found = Trial(stage, made, cleaned, result.files, readers=readers, sleep=sleep, answer=answer).run()
        result.stages[stage.slug] = found
        if found.is_interrupted or any(failure.item is None for failure in found.failures):
            break  # it waits for a person, or a hook has failed and ends the run
    return result


def _input(pipeline: type[Pipeline], items: Iterable[Any]) -> list[Item]:
    checks = item_types.input_checks(pipeline)
    most = AutomationSettings.max_item_bytes
    found: list[Item] = []
    for ordinal, item in enumerate(items):
        try:
            encoded = encode(pipeline.clean_item(item) if isinstance(item, dict) else item, most)
            for check in checks:
                check(encoded)
        except UnfitPayload as unfit:
            raise InvalidInput(f"Cannot use item {ordinal + 1}: {unfit}.") from None
        found.append((keys.segment(ordinal), encoded))
    if not found:
        raise InvalidInput("Cannot run it: the input has no items.")
    return found
