"""What an agent hands in, checked against the items of its slice before anything of it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from automation.errors import CheckpointConflict, InvalidCheckpoint
from automation.gate import installed
from automation.items import store, units
from automation.items.leased_slice import LeasedSlice
from automation.items.units import Failure
from automation.leases.checkpoint import Progress
from automation.models import ItemFailure, StageRun, WorkItem
from automation.models.tables import ITEM
from automation.pipeline import definition, item_types
from automation.pipeline.definition import Definition


@dataclass(frozen=True)
class GivenUp:
    """An item that the agent could not do, in its own words."""

    key: str
    error: str
    attempts: int = 1


@dataclass(frozen=True)
class Submission:
    """The outputs of every item up to ``cursor`` that is done, none left out, and the items that were given up."""

    cursor: str
    outputs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    failures: Sequence[GivenUp] = ()
    busy_seconds: float = 0.0


def progress_of(work: LeasedSlice, stage_run: StageRun, handed: Submission) -> Progress:
    """``handed`` as ``checkpoint.commit`` takes it, counted by the items of the slice, or ``InvalidCheckpoint``.

    Read are the keys up to the cursor, and of the items that were given up the payloads: what the others weigh, and
    what comes after, costs nothing. Agents take items one by one, so a key is an item.
    """
    given_up = {failure.key: failure for failure in handed.failures}
    if len(given_up) < len(handed.failures):
        raise InvalidCheckpoint("Cannot checkpoint: an item is named twice among the failures.")
    source_id = work.source_id or 0
    prefix = units.prefix_of(stage_run, source_id)
    position = handed.cursor.removeprefix(prefix)
    if not work.cursor < position <= work.last_key:
        raise _not_left(handed)
    stage = definition.of(stage_run)
    readers = installed.readers_of(stage_run)
    done = Progress(cursor=work.cursor, busy_seconds=handed.busy_seconds)
    payloads = _payloads(source_id, [key.removeprefix(prefix) for key in given_up])
    left = {*handed.outputs, *given_up}
    for key in store.read_keys(source_id, first=work.first_key, after=work.cursor, up_to=position):
        full = prefix + key
        if full not in left:
            raise InvalidCheckpoint(f"Cannot checkpoint: item {full} is before the cursor and was left out.")
        left.discard(full)
        _check(full, handed.outputs.get(full), readers)
        _add(stage, done, full, handed.outputs.get(full), given_up.get(full), payloads.get(key))
        done.cursor = key
    if done.cursor != position:
        raise _not_left(handed)
    if left:
        raise InvalidCheckpoint(f"Cannot checkpoint: {min(left)!r} is none of the items up to {handed.cursor}.")
    return done


def _check(key: str, outputs: Sequence[Any] | None, readers: Sequence[item_types.Reader]) -> None:
    if not readers:
        return
    try:
        for number, output in enumerate(outputs or (), start=1):
            item_types.check_output(output, number, readers)
    except store.UnfitPayload as error:
        raise InvalidCheckpoint(f"Cannot keep the outputs of item {key}: {error}.") from None


def _payloads(made_by: int, keys: Sequence[str]) -> dict[str, Any]:
    if not keys:
        return {}
    return dict(WorkItem.objects.filter(made_by=made_by, key__in=keys).values_list("key", "payload"))


def _not_left(handed: Submission) -> InvalidCheckpoint:
    return InvalidCheckpoint(f"Cannot checkpoint: {handed.cursor!r} is none of the items that are left.")


def _add(
    stage: Definition, done: Progress, key: str, outputs: Sequence[Any] | None, failure: GivenUp | None, payload: Any
) -> None:
    if failure is None:
        done.outputs += _rows(key, outputs or (), stage)
        done.processed += 1
    elif outputs is None:
        done.failures.append(Failure(key, payload, units.told(failure.error), failure.attempts))
        done.failed += 1
    else:
        raise InvalidCheckpoint(f"Cannot checkpoint: item {key} is named as done and as failed.")


def _rows(key: str, outputs: Sequence[Any], stage: Definition) -> list[bytes]:
    try:
        return store.output_rows(key, outputs, stage.max_item_bytes)
    except store.UnfitPayload as error:
        raise InvalidCheckpoint(f"Cannot keep the outputs of item {key}: {error}.") from None


def check_repeat(stage: Definition, stage_run: StageRun, handed: Submission) -> None:
    """Return if all that was handed in is committed already, as it is here; else raise ``CheckpointConflict``."""
    rows = [row for key, outputs in handed.outputs.items() for row in _rows(key, outputs, stage)]
    with connection.cursor() as cursor:
        cursor.execute(_SAME, {"stage": stage_run.pk, "outputs": b"\n".join(rows).decode()})
        (same,) = cursor.fetchone()
    failed = {failure.key for failure in handed.failures}
    known = ItemFailure.objects.filter(stage_run=stage_run, key__in=failed).count()
    if same != len(rows) or known != len(failed):
        raise CheckpointConflict(
            f"Cannot checkpoint: all up to item {handed.cursor} is committed, and it is not what comes now."
        )


_SAME = f"""
    SELECT count(*) FROM string_to_table(%(outputs)s, E'\\n') AS line
      JOIN {ITEM} AS item
        ON item.made_by_id = %(stage)s AND item.key = split_part(line, E'\\t', 1)
       AND item.payload = split_part(line, E'\\t', 2)::jsonb
     WHERE line <> ''
"""
