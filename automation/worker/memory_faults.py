"""What ran out of memory: the node is told, and admits less."""

from __future__ import annotations

from dataclasses import asdict

from automation.models import StageRun
from automation.pipeline import definition
from pause_manager.nodes import threshold


def note(error: BaseException, stage_run: StageRun, node: str) -> None:
    """If ``error``, of a loop of ``stage_run`` on ``node``, says that memory ran out, ``node`` adapts."""
    if threshold.is_out_of_memory(error):
        threshold.note_out_of_memory(
            node,
            reason=f"A loop of {stage_run.slug} ran out of memory: {type(error).__name__}: {error}"[:500],
            details={
                "stage": stage_run.slug,
                "run": str(stage_run.run_id),
                "needs": asdict(definition.of(stage_run).needs),
            },
        )
