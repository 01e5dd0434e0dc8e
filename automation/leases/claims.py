"""Claims of slices.

The holder of a slice proves it with slice id *and* fencing token in every write; no row means the lease is lost.
All times are the database's. Locks are taken in the order of docs/architecture.md, "Lock order".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from django.db import connection, transaction

from automation import conf, gate
from automation.errors import NoRoom
from automation.gate import delays, resource_limits, standstills
from automation.gate.loop_limit import LOOP_LIMIT
from automation.items.leased_slice import LeasedSlice
from automation.leases import batches, split
from automation.leases.holders import Worker
from automation.leases.lease_columns import KEEPS
from automation.models.tables import RUN, SLICE, STAGE
from automation.models.work import WorkSlice
from automation.pipeline.definition import BATCH_DELAY, GROUP_SIZE, IS_PLAIN
from pause_manager import holds, nodes, resources
from pause_manager.database.prepared import NotKept, PreparedStatement
from pause_manager.nodes.machines import identity
from pause_manager.observability import gate_health


def claim(
    stage_run_id: int,
    worker: Worker,
    *,
    is_fresh: bool = True,
    room: Callable[[str], Sequence[str]] | None = None,
    suits: Callable[[str, Sequence[str]], bool] | None = None,
) -> LeasedSlice | None:
    """Lease the next open slice of a running stage; ``None`` if none is due, the gate is shut or loops are enough.

    Raises :class:`NoRoom` on a node that is held or full.

    An item (or group) on which loops were lost is split off into a slice of its own, which only a loop that has done
    nothing yet (``is_fresh``) gets; the rest continues at once.

    ``room`` is called with the node's name in the same transaction: it locks the node and returns the GPUs that the
    loop may use, or raises :class:`NoRoom`. A slice that keeps its admission on the node is taken first, without
    ``room``, unless ``suits`` says that this loop cannot use its GPUs or that its container has no room for it.

    A committed hold is obeyed: the locks exclude a hold that is being placed. ``concurrency`` is counted from live rows
    while claims of the stage take turns, and cannot be exceeded; so are the places of a resource while the claims that
    use it do.
    """
    limited = _limited_before.get(stage_run_id, frozenset())
    while True:
        is_outermost = not connection.in_atomic_block
        try:
            return _claim(stage_run_id, worker, limited, is_fresh=is_fresh, room=room, suits=suits)
        except _Limited as found:
            limited = found.names
        except NotKept:
            if not is_outermost:
                raise


_limited_before: dict[int, frozenset[str]] = {}
"""By stage, the resources that the last claim of this process found to have a limit: the next locks them at once."""
_MOST_REMEMBERED = 1_000


def _remember(stage_run_id: int, names: frozenset[str]) -> None:
    if not names:
        _limited_before.pop(stage_run_id, None)
        return
    if len(_limited_before) >= _MOST_REMEMBERED:
        _limited_before.clear()
    _limited_before[stage_run_id] = names


class _Limited(Exception):
    """Resources have a limit and are not locked: nothing was claimed."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(names)))
        self.names = names


def _claim(
    stage_run_id: int,
    worker: Worker,
    limited: frozenset[str],
    *,
    is_fresh: bool,
    room: Callable[[str], Sequence[str]] | None,
    suits: Callable[[str, Sequence[str]], bool] | None,
) -> LeasedSlice | None:
    with transaction.atomic(), connection.cursor() as cursor:
        # 0. Lock the resources of the stage that were found to have a limit; most have none.
        if limited:
            limited = frozenset(resources.lock(limited))
        # 1. Lock the run and the holds, shared with other claims.
        cursor.execute(_TAKE_SHARES, [stage_run_id])
        is_plain = cursor.fetchone()
        # 2. Lock the stage, if the gate lets it proceed.
        with gate_health.counted("gate"):
            (_OPEN_IF_PLAIN if is_plain == (True,) else _OPEN).run(
                cursor, {"stage": stage_run_id, "boot_id": worker.boot_id, "node": worker.node, **gate.values()}
            )
        found = cursor.fetchone()
        if found is None:
            return None
        # 3. See that the node is not held. No machine is renamed once the shares are taken.
        node, kept, kept_gpus, concurrency, group_size, run_id, waits, terms, is_apart, hands_out = found
        terms = orjson.loads(terms) if terms else {}
        if not terms.keys() <= limited:
            raise _Limited(limited | terms.keys())
        _remember(stage_run_id, frozenset(terms))
        if worker.boot_id:
            identity.know(node)
        with gate_health.counted("node"):
            held_because = nodes.held_because(node)
        if held_because is not None:
            raise NoRoom(f"{node} is held: {held_because or 'no reason given'}")
        values: dict[str, Any] = {
            "stage": stage_run_id,
            "owner": worker.owner,
            "keeper": worker.keeper,
            "node": node,
            "lease": conf.settings().lease_seconds,
            "concurrency": concurrency,
            "group": group_size,
            "is_fresh": is_fresh,
            "hands_out": hands_out,
            **_suspicion(),
        }
        # 4. Take the slice that keeps its admission here, if there is one.
        row = None
        if room is not None and kept is not None and (suits is None or suits(node, kept_gpus)):
            _CLAIM_KEPT.run(cursor, {**values, "slice": kept, "gpus": kept_gpus})
            row = cursor.fetchone()
        # 5. Otherwise get room on the node, and take the next slice that is due.
        if row is None:
            gpus = list(room(node)) if room is not None else []
            _CLAIM.run(cursor, {**values, "gpus": gpus})
            row = cursor.fetchone()
        # 6. Note that a worker has come, and try a suspect item alone.
        if row is not None and waits:
            standstills.end_waiting(run_id)
        work = LeasedSlice(*row) if row else None
        if work is not None and is_apart and hands_out and work.phase == WorkSlice.Phase.WORK:
            batches.hand_out(work)
        if work is not None and terms:
            _agree(work, terms)
        if work is not None and work.is_suspect and not work.is_alone and work.source_id is not None:
            split.split_off_first(cursor, work, group_size)
    return work


def _agree(work: LeasedSlice, terms: dict[str, tuple[int | None, bool, bool]]) -> None:
    work.places = min((most for most, _, _ in terms.values() if most is not None), default=None)
    work.probes = tuple(name for name, (_, is_probe, _) in terms.items() if is_probe)
    work.paced = tuple(name for name, (_, _, is_paced) in terms.items() if is_paced)


def _suspicion() -> dict[str, Any]:
    verdict = conf.settings().verdict_crashes
    return {"suspect_crashes": verdict - 1, "suspect_expiries": verdict}


def take(slice_id: int, worker: Worker) -> LeasedSlice | None:
    """Lease one open, free slice to correct its record, whatever the gate says; ``None`` if it is not open and free."""
    with connection.cursor() as cursor:
        cursor.execute(
            _TAKE,
            {
                "slice": slice_id,
                "owner": worker.owner,
                "keeper": worker.keeper,
                "node": worker.node,
                "gpus": [],
                "lease": conf.settings().lease_seconds,
            },
        )
        row = cursor.fetchone()
    return LeasedSlice(*row) if row else None


def leased_by(slice_id: int, token: int, owner: str) -> LeasedSlice | None:
    """Return the slice if ``owner`` or one of its ``owner/…`` holds it under ``token``; locked until the commit."""
    with connection.cursor() as cursor:
        cursor.execute(_LEASED_BY, {"slice": slice_id, "token": token, "owner": owner})
        row = cursor.fetchone()
    return LeasedSlice(*row) if row else None


# The run first: placing a hold locks the run before it waits for the shares.
_TAKE_SHARES = f"""
    WITH stage AS MATERIALIZED (
        SELECT run_id, {IS_PLAIN} AS is_plain FROM {STAGE} AS stage WHERE id = %s
    ), run AS MATERIALIZED (
        SELECT 1 FROM {RUN} WHERE id = (SELECT run_id FROM stage) FOR SHARE
    ), taken AS MATERIALIZED (
        {holds.TAKE_SHARE} FROM run)
    SELECT stage.is_plain FROM stage CROSS JOIN taken
"""

_LEASE = f"""
    UPDATE {SLICE} AS slice
       SET lease_token = nextval('automation_lease_token'), lease_owner = %(owner)s, lease_node = %(node)s,
           lease_keeper = %(keeper)s, lease_excused = false,
           lease_gpus = %(gpus)s::text[], lost_at = NULL, leased_at = clock_timestamp(), available_at = NULL,
           is_begun = true,
           lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
"""
_WORK = """
    slice.id, lease_token, stage_run_id, phase, source_id, first_key, last_key, cursor, size, crashes, lease_gpus,
    lease_node, processed + failed, overrun_key, overrun_attempts, expiries, waits, waited_seconds, slice.is_alone
"""
_LEASED = f" RETURNING {_WORK}"

_LEASED_BY = f"""
    SELECT {_WORK} FROM {SLICE} AS slice
     WHERE id = %(slice)s AND lease_token = %(token)s AND split_part(lease_owner, '/', 1) = %(owner)s
       FOR NO KEY UPDATE
"""

_KEPT = f"""
    SELECT slice.id, slice.lease_gpus FROM {SLICE} AS slice
     WHERE slice.stage_run_id = stage.id AND slice.lease_node = here.node AND {KEEPS} LIMIT 1
"""

_OPEN_IF = f"""
    WITH here AS (
        SELECT coalesce((SELECT name FROM {identity.MACHINE} WHERE boot_id = %(boot_id)s), %(node)s) AS node
    )
    SELECT here.node, kept.id, kept.lease_gpus, {LOOP_LIMIT}, {GROUP_SIZE}, run.id, {standstills.WAITS},
           {{terms}}, {{delays}}
      FROM here CROSS JOIN {STAGE} AS stage
      JOIN {RUN} AS run ON run.id = stage.run_id
      LEFT JOIN LATERAL ({_KEPT}) AS kept ON true
     WHERE stage.id = %(stage)s AND stage.lifecycle = 'running' AND {{is_open}}
       FOR NO KEY UPDATE OF stage
"""
_OPEN_TYPES = {"stage": "bigint", "boot_id": "text", "node": "text", **gate.VALUE_TYPES}
_OPEN = PreparedStatement(
    "open",
    _OPEN_IF.format(terms=resource_limits.TERMS, delays=f"{BATCH_DELAY} > 0, {delays.HANDS_OUT}", is_open=gate.OPEN),
    _OPEN_TYPES,
)
_OPEN_IF_PLAIN = PreparedStatement(
    "open_if_plain", _OPEN_IF.format(terms="NULL", delays="false, true", is_open=gate.OPEN_IF_PLAIN), _OPEN_TYPES
)
"""For a stage without resources and without delays between batches: it need not be planned for what is not there."""

_ALONE = """
    ((crashes >= %(suspect_crashes)s OR expiries >= %(suspect_expiries)s) AND size - processed - failed <= %(group)s)
"""
"""SQL over a slice: what is left of it is one item, or group, on which loops were lost."""

_CLAIM_IF = f"""
    WITH due AS (
        SELECT id, {_ALONE} AS is_alone FROM {SLICE}
         WHERE stage_run_id = %(stage)s AND finished_at IS NULL AND lease_token IS NULL
           AND {{which}}
           AND (available_at IS NULL OR available_at <= statement_timestamp())
           AND (%(is_fresh)s OR NOT {_ALONE}) AND (%(hands_out)s OR is_begun)
           AND phase = (SELECT phase FROM {SLICE} WHERE stage_run_id = %(stage)s AND finished_at IS NULL
                         ORDER BY phase LIMIT 1)
           AND (%(concurrency)s::int IS NULL OR %(concurrency)s::int > (
                SELECT count(*) FROM {SLICE}
                 WHERE stage_run_id = %(stage)s AND lease_token IS NOT NULL AND finished_at IS NULL))
         ORDER BY ordinal LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    {_LEASE}, is_alone = due.is_alone
      FROM due WHERE slice.id = due.id
{_LEASED}
"""
_CLAIM_TYPES = {
    **dict.fromkeys(("stage", "slice"), "bigint"),
    **dict.fromkeys(("owner", "keeper", "node"), "text"),
    **dict.fromkeys(("concurrency", "group", "suspect_crashes", "suspect_expiries"), "integer"),
    **dict.fromkeys(("is_fresh", "hands_out"), "boolean"),
    "lease": "float8",
    "gpus": "text[]",
}
_CLAIM = PreparedStatement("claim", _CLAIM_IF.format(which="true"), _CLAIM_TYPES)
_CLAIM_KEPT = PreparedStatement("claim_kept", _CLAIM_IF.format(which="id = %(slice)s"), _CLAIM_TYPES)

_TAKE = f"""
    {_LEASE} WHERE slice.id = %(slice)s AND finished_at IS NULL AND lease_token IS NULL
{_LEASED}
"""
