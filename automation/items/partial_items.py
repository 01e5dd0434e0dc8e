"""What is committed of an item before it is done: its own state, and outputs that are too many to keep in memory.

Both wait in tables of their own until the item ends; then the checkpoint that moves the cursor past it makes its
outputs items, all at once (ADR 20). Nobody else ever reads half an item. Fenced like all that ``leases`` does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson
from django.db import Error as DatabaseError
from django.db import connection

from automation import conf
from automation.errors import LeaseLost
from automation.items import keys
from automation.items.background_connection import BackgroundConnection, numbered
from automation.items.leased_slice import LeasedSlice
from automation.models.tables import ITEM_CHUNK, ITEM_STATE, RUN, SLICE, STAGE
from automation.pipeline.context import Interrupted, StageContext
from automation.pipeline.payloads import UnfitPayload
from pause_manager import database
from pause_manager.finite import non_finite

logger = logging.getLogger("automation.items.partial_items")

STATES_AT_ONCE, CHUNKS_AT_ONCE = 5_000, 250
"""Rows that are forgotten at once: a chunk is of some megabytes."""


class ItemStates:
    """The states of the items of one slice, read when first asked for."""

    def __init__(self, work: LeasedSlice, prefix: str) -> None:
        self.work = work
        self._prefix = prefix
        self._known: dict[str, tuple[str, int]] | None = None

    def of(self, key: str) -> tuple[str, int] | None:
        """State of item ``key`` as JSON, and how many outputs were committed with it."""
        return self.load().get(key)

    def load(self) -> dict[str, tuple[str, int]]:
        """Read them, if that was not done before."""
        if self._known is None:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT key, state::text, outputs FROM {ITEM_STATE} "
                    "WHERE stage_run_id = %s AND key BETWEEN %s AND %s",
                    [self.work.stage_run_id, self._prefix + self.work.first_key, self._prefix + self.work.last_key],
                )
                self._known = {found: (state, outputs) for found, state, outputs in cursor.fetchall()}
        return self._known

    def note(self, key: str, state: str, outputs: int) -> None:
        if self._known is not None:
            self._known[key] = (state, outputs)

    def forget(self, key: str) -> None:
        if self._known is not None:
            self._known.pop(key, None)


class PartialItem:
    """Of the item that a loop is at. ``is_touched`` once anything of it is, or was, committed before its end."""

    def __init__(
        self,
        ctx: StageContext,
        *,
        must_stop: Callable[[], bool],
        committing: Callable[[], AbstractContextManager[None]] = nullcontext,
        background: BackgroundConnection | None = None,
    ) -> None:
        self.key = ""
        self.rows: list[bytes] = []
        """Outputs of item ``key`` that are not committed, as lines; numbered from 0 in this attempt."""
        self.is_touched = False
        self.states: ItemStates | None = None
        """Of the slice in progress; ``None`` between slices."""
        self._ctx = ctx
        self._must_stop = must_stop
        self._committing = committing
        self._background = background or BackgroundConnection()
        self.restart()

    def restart(self) -> None:
        """Another attempt begins, or another item."""
        self.key, self.rows = "", []
        self._kept = 0
        """Outputs that an attempt before has committed and this one continues from."""
        self._sent = 0
        """Outputs that this attempt has committed."""
        self._has_written = self._goes_on = False
        """Whether this attempt has committed anything; whether it asked for its state, and there was one."""

    def leave(self) -> None:
        """The item is left as it was last committed."""
        self.restart()
        self.is_touched = False

    @property
    def _outputs(self) -> int:
        return self._kept + self._sent

    def state(self) -> Any:
        """For ``ctx.state``."""
        if self.states is None:
            return None
        found = self.states.of(self._ctx.item_key)
        if found is None:
            return None
        if not self._has_written:
            self._kept = found[1]
            self.is_touched = self._goes_on = True
        return orjson.loads(found[0])

    def checkpoint(self, state: Any) -> None:
        """For ``ctx.checkpoint``."""
        if self.states is None:
            raise RuntimeError("Cannot commit a checkpoint: no item is in progress.")
        encoded = _encoded(state)
        try:
            with self._committing():
                self._write(encoded)
        except LeaseLost as lost:
            raise Interrupted from lost
        self.states.note(self._ctx.item_key, encoded, self._outputs)
        if self._must_stop():
            raise Interrupted

    def spill(self) -> None:
        """Commit the outputs that are in memory; :attr:`rows` is empty afterwards. Raises :class:`LeaseLost`."""
        with self._committing():
            self._write(None)

    def ended(self, rows: list[bytes], staged: dict[str, int]) -> list[bytes]:
        """The item is done, with ``rows`` that are not committed: what the checkpoint takes of them.

        ``staged`` is that checkpoint's, see ``checkpoint.Progress``.
        """
        rest = self._numbered(rows)
        self._end(staged, self._outputs)
        return rest

    def given_up(self, staged: dict[str, int]) -> None:
        """The item has failed: nothing of it is kept."""
        self._end(staged, 0)

    def close(self) -> None:
        self.states = None
        self._background.close()

    def _end(self, staged: dict[str, int], outputs: int) -> None:
        key = self._ctx.item_key
        staged[key] = outputs
        if self.states is not None:
            self.states.forget(key)
        self.leave()

    def _numbered(self, rows: list[bytes]) -> list[bytes]:
        """``rows`` with the numbers that they have in the whole item."""
        if not self._kept:
            return list(rows)
        start = self._ctx.item_key
        return [
            keys.child(start, self._outputs + number).encode() + row[row.index(b"\t") :]
            for number, row in enumerate(rows)
        ]

    def _write(self, state: str | None) -> None:
        assert self.states is not None
        work = self.states.work
        # A function that returns a list is asked for its outputs only then: those in memory are of the item before.
        rows = self._numbered(self.rows) if self.key == self._ctx.item_key else []
        facts = {
            "slice": work.slice_id,
            "token": work.token,
            "lease": conf.settings().lease_seconds,
            "key": self._ctx.item_key,
            "ordinal": self._outputs,
            "rows": b"\n".join(rows).decode(),
            "state": state,
            "outputs": self._outputs + len(rows),
            "is_anew": not self._has_written and not self._goes_on and state is None,
        }
        if _send(self._background, work.slice_id, [_as_bytes(facts[name]) for name in _NAMES]) != b"1":
            raise LeaseLost(f"Cannot checkpoint slice {work.slice_id}: it is no longer held under token {work.token}.")
        if facts["is_anew"]:
            self.states.forget(self._ctx.item_key)
        self._has_written = self.is_touched = True
        self._sent += len(rows)
        if rows:
            self.rows.clear()


def _encoded(state: Any) -> str:
    if state is None:
        raise UnfitPayload("expected a state that is a JSON value other than None, got: None")
    try:
        encoded = orjson.dumps(state, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise UnfitPayload(f"expected a state made of JSON values: {error}") from None
    if found := non_finite(state):
        raise UnfitPayload(f"expected a state of finite numbers: {found}")
    most = conf.settings().max_item_bytes
    if len(encoded) > most:
        raise UnfitPayload(
            f"expected a state of at most {most:,} bytes, got: {len(encoded):,}; keep it in ctx.artifacts, and its "
            "name in the state"
        )
    return encoded.decode()


def _as_bytes(value: Any) -> bytes | None:
    return None if value is None else str(value).encode()


def _send(background: BackgroundConnection, slice_id: int, values: list[bytes | None]) -> bytes | None:
    """The result of ``_WRITE``, tried again while the database is away, for as long as the lease can last."""
    gives_up_at = time.monotonic() + 2 * conf.settings().lease_seconds
    while True:
        try:
            background.send(_STATEMENT, values)
            return background.result()
        except DatabaseError as error:
            if database.is_refused(error):
                raise UnfitPayload(f"the database refuses it: {error}") from error
            if not database.is_away(error) or time.monotonic() > gives_up_at:
                raise
            logger.warning("The database is %s: slice %d asks again.", database.told(error), slice_id)
            time.sleep(0.5)


def delete_ended() -> int:
    """Forget some of what is unfinished for good, as its stage or run has ended; how many rows that was."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT stage_run_id FROM {ITEM_STATE} UNION SELECT stage_run_id FROM {ITEM_CHUNK}")
        found = [pk for (pk,) in cursor.fetchall()]
        if not found:
            return 0
        cursor.execute(
            f"SELECT stage.id FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id "
            "WHERE stage.id = ANY(%s) AND (stage.lifecycle NOT IN ('pending', 'running') "
            "OR run.lifecycle NOT IN ('pending', 'running')) "
            # A loop may be at an item of a run that has failed meanwhile, and commit it whole.
            f"AND NOT EXISTS (SELECT 1 FROM {SLICE} AS slice WHERE slice.stage_run_id = stage.id "
            "AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL)",
            [found],
        )
        ended = [pk for (pk,) in cursor.fetchall()]
        rows = 0
        for table, most in ((ITEM_STATE, STATES_AT_ONCE), (ITEM_CHUNK, CHUNKS_AT_ONCE)):
            cursor.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE stage_run_id = ANY(%s) LIMIT %s)",
                [ended, most],
            )
            rows += cursor.rowcount
    return rows


# An attempt that starts again first writes over what an attempt before has left, and takes away what came after it.
_WRITE = f"""
    WITH held AS MATERIALIZED (
        UPDATE {SLICE} SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s::float8)
         WHERE id = %(slice)s::bigint AND lease_token = %(token)s::bigint
     RETURNING stage_run_id
    ), after AS (
        DELETE FROM {ITEM_CHUNK} AS chunk USING held
         WHERE chunk.stage_run_id = held.stage_run_id AND chunk.key = %(key)s::varchar
           AND (chunk.ordinal > %(ordinal)s::bigint OR (chunk.ordinal = %(ordinal)s::bigint AND %(rows)s::text = ''))
    ), written AS (
        INSERT INTO {ITEM_CHUNK} (stage_run_id, key, ordinal, rows)
        SELECT stage_run_id, %(key)s::varchar, %(ordinal)s::bigint, %(rows)s::text FROM held WHERE %(rows)s::text <> ''
            ON CONFLICT (stage_run_id, key, ordinal) DO UPDATE SET rows = excluded.rows
    ), forgotten AS (
        DELETE FROM {ITEM_STATE} AS state USING held
         WHERE state.stage_run_id = held.stage_run_id AND state.key = %(key)s::varchar AND %(is_anew)s::boolean
    ), noted AS (
        INSERT INTO {ITEM_STATE} (stage_run_id, key, state, outputs)
        SELECT stage_run_id, %(key)s::varchar, %(state)s::jsonb, %(outputs)s::bigint FROM held
         WHERE %(state)s::text IS NOT NULL
            ON CONFLICT (stage_run_id, key) DO UPDATE
               SET state = excluded.state, outputs = excluded.outputs, written_at = statement_timestamp()
    )
    SELECT count(*) FROM held
"""
_STATEMENT, _NAMES = numbered(_WRITE)
