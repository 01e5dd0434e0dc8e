"""How many loops a stage of a run may have at a time: as declared, or as an operator has set it for a while."""

from __future__ import annotations

from automation.pipeline.definition import BATCH_DELAY, CONCURRENCY
from pause_manager.models import Override
from pause_manager.overrides import kinds

KIND = "stage_concurrency"
"""The kind of override that sets it for a while."""

_OF_RUN = "'run:' || run.id || '/' || stage.slug"
_OF_PIPELINE = "'pipeline:' || run.pipeline || '/' || stage.slug"

LOOP_LIMIT = f"""least(
    coalesce(({kinds.active_value(KIND, _OF_RUN, _OF_PIPELINE)})::int, {CONCURRENCY}),
    CASE WHEN {BATCH_DELAY} > 0 THEN 1 END)"""
"""SQL over ``run`` and ``stage``; null: no limit. Where batches are apart, one is in progress at a time."""


def check() -> None:
    """Raise what keeps claims from reading the overrides that :data:`LOOP_LIMIT` asks for."""
    Override.objects.active().filter(kind=KIND).exists()
