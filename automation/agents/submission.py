"""Results that an agent submits, checked against the items of its slice before any of them is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from automation.errors import CheckpointConflict, InvalidCheckpoint
from automation.gate import installed_code
from automation.items import store, units
from automation.items.leased_slice import LeasedSlice
from automation.items.units import Failure
from automation.leases.checkpoint import Progress
from automation.models import ItemFailure, StageRun, WorkItem
from automation.models.tables import ITEM
from automation.pipeline import definition, item_types
from automation.pipeline.definition import Definition


@dataclass(frozen=True)
class FailedItem:
    """An item that failed, with the error in the agent's words."""

    key: str
    error: str
    attempts: int = 1


@dataclass(frozen=True)
class Submission:
    """The outputs of every finished item up to ``cursor``, without gaps, and the items that failed."""

    cursor: str
    outputs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    failures: Sequence[FailedItem] = ()
    busy_seconds: float = 0.0


def progress_of(work: LeasedSlice, stage_run: StageRun, given: Submission) -> Progress:
    """Convert ``given`` for ``checkpoint.commit``, or raise ``InvalidCheckpoint``.

    Reads the keys up to the cursor, and payloads of failed items only: the size of the others, and the items after the
    cursor, cost nothing. Agents take items one by one, so a key is an item.
    """
    given_up = {failure.key: failure for failure in given.failures}
    if len(given_up) < len(given.failures):
        raise InvalidCheckpoint("Cannot checkpoint: an item is named twice among the failures.")
    source_id = work.source_id or 0
    prefix = units.prefix_of(stage_run, source_id)
    position = given.cursor.removeprefix(prefix)
    if not work.cursor < position <= work.last_key:
        raise _not_left(given)
    stage = definition.of(stage_run)
    readers = installed_code.readers_of(stage_run)
    done = Progress(cursor=work.cursor, busy_seconds=given.busy_seconds)
    payloads = _payloads(source_id, [key.removeprefix(prefix) for key in given_up])
    left = {*given.outputs, *given_up}
    for key in store.read_keys(source_id, first=work.first_key, after=work.cursor, up_to=position):
        full = prefix + key
        if full not in left:
            raise InvalidCheckpoint(f"Cannot checkpoint: item {full} is before the cursor and is missing.")
        left.discard(full)
        _check(full, given.outputs.get(full), readers)
        _add(stage, done, full, given.outputs.get(full), given_up.get(full), payloads.get(key))
        done.cursor = key
    if done.cursor != position:
        raise _not_left(given)
    if left:
        raise InvalidCheckpoint(f"Cannot checkpoint: {min(left)!r} is not an item up to {given.cursor}.")
    return done


def _check(key: str, outputs: Sequence[Any] | None, readers: Sequence[item_types.Reader]) -> None:
    if not readers:
        return
    try:
        for number, output in enumerate(outputs or (), start=1):
            item_types.check_output(output, number, readers)
    except store.UnfitPayload as error:
        raise InvalidCheckpoint(f"Cannot store the outputs of item {key}: {error}.") from None


def _payloads(made_by: int, keys: Sequence[str]) -> dict[str, Any]:
    if not keys:
        return {}
    return dict(WorkItem.objects.filter(made_by=made_by, key__in=keys).values_list("key", "payload"))


def _not_left(given: Submission) -> InvalidCheckpoint:
    return InvalidCheckpoint(f"Cannot checkpoint: {given.cursor!r} is not one of the remaining items.")


def _add(
    stage: Definition, done: Progress, key: str, outputs: Sequence[Any] | None, failure: FailedItem | None, payload: Any
) -> None:
    if failure is None:
        done.outputs += _rows(key, outputs or (), stage)
        done.processed += 1
    elif outputs is None:
        done.failures.append(Failure(key, payload, units.error_text(failure.error), failure.attempts))
        done.failed += 1
    else:
        raise InvalidCheckpoint(f"Cannot checkpoint: item {key} is named as done and as failed.")


def _rows(key: str, outputs: Sequence[Any], stage: Definition) -> list[bytes]:
    try:
        return store.output_rows(key, outputs, stage.max_item_bytes)
    except store.UnfitPayload as error:
        raise InvalidCheckpoint(f"Cannot store the outputs of item {key}: {error}.") from None


def check_repeat(stage: Definition, stage_run: StageRun, given: Submission) -> None:
    """Return if all of ``given`` is committed already with the same content; else raise ``CheckpointConflict``."""
    rows = [row for key, outputs in given.outputs.items() for row in _rows(key, outputs, stage)]
    with connection.cursor() as cursor:
        cursor.execute(_SAME, {"stage": stage_run.pk, "outputs": b"\n".join(rows).decode()})
        (same,) = cursor.fetchone()
    failed = {failure.key for failure in given.failures}
    known = ItemFailure.objects.filter(stage_run=stage_run, key__in=failed).count()
    if same != len(rows) or known != len(failed):
        raise CheckpointConflict(
            f"Cannot checkpoint: everything up to item {given.cursor} is committed with other content."
        )


_SAME = f"""
    SELECT count(*) FROM string_to_table(%(outputs)s, E'\\n') AS line
      JOIN {ITEM} AS item
        ON item.made_by_id = %(stage)s AND item.key = split_part(line, E'\\t', 1)
       AND item.payload = split_part(line, E'\\t', 2)::jsonb
     WHERE line <> ''
"""
