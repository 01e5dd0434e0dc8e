"""How many loops a stage may have, for a while: of one run, or of all runs of a pipeline."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction

from automation import dispatch
from automation.gate import installed_code
from automation.gate.loop_limit import KIND
from automation.models import AutomationRun, StageRun
from automation.overrides.named_run import id_of
from automation.overrides.run_priority import refusal
from pause_manager import scopes
from pause_manager.overrides import OverrideKind, OverrideTargetUnknown

MOST = 10_000


class StageConcurrency(OverrideKind):
    """It stands in the declaration: dispatch and claims read what overrides it in the statement that reads that.

    So it counts for runs that are created later too, and that of a run before that of its pipeline. Loops that are one
    too many are interrupted by nothing: they end by themselves, and none takes their place.
    """

    name = KIND
    title = "concurrency of stage"
    targets = "run:ID/STAGE, or pipeline:SLUG/STAGE for all of its runs"
    values = f"a whole number from 1 to {MOST:,}"

    def target(self, text: str) -> str:
        of, _, slug = text.rpartition("/")
        kind, name = scopes.parse(of)
        if not slug or not name or kind not in ("run", "pipeline"):
            raise self.invalid_target(text)
        if kind == "pipeline":
            return text
        return f"{scopes.run(id_of(self, text, name))}/{slug}"

    def value(self, text: str) -> int:
        if text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST:
            return int(text)
        raise self.invalid_value(text)

    def scope(self, target: str) -> str:
        return target.rpartition("/")[0]

    def apply(self, target: str, value: Any) -> None:
        of, _, slug = target.rpartition("/")
        kind, name = scopes.parse(of)
        if kind == "pipeline":
            pipeline = installed_code.pipeline_of(name)
            known = [stage.slug for stage in pipeline.stages] if pipeline is not None else []
            what = f"pipeline {name}"
        else:
            if not AutomationRun.objects.unfinished().filter(pk=UUID(name)).exists():
                raise refusal(UUID(name), "concurrency of a stage")
            stages = StageRun.objects.filter(run=UUID(name), position__gte=0).order_by("position")
            known, what = list(stages.values_list("slug", flat=True)), f"run {name}"
        if not known:
            raise OverrideTargetUnknown(f"Cannot override the concurrency of {target}: there is no {what}.")
        if slug not in known:
            allowed = ", ".join(known)
            raise OverrideTargetUnknown(
                f"Cannot override the concurrency of {target}: {what} has no stage {slug}; it has {allowed}."
            )

    def restore(self, target: str, value: Any, previous: Any) -> str:
        return "the concurrency is that of the stage's declaration again"

    def followed(self, target: str) -> None:
        # Of a pipeline the reconciler sends what is missing, within seconds.
        kind, name = scopes.parse(self.scope(target))
        if kind == "run":
            transaction.on_commit(lambda: dispatch.of_runs([UUID(name)]), robust=True)
