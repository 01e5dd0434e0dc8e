"""Claim, heartbeat, release, reap: every lock on a slice and, with ``checkpoint``, every fencing check.

The holder of a slice proves it with slice id *and* fencing token in every write; no row means the lease is lost.
All times are the database's.

Locks are taken in this order, by claims and by every other writer:

1. all dependencies, by who adds one; then a lane, by who gives a place of it or changes its order (``models.lanes``).
   A claim takes neither: a place is a column of the run
2. the rows of resources that have a limit, by name: claims of what uses one take turns (``resources.lock``)
3. the rows of runs, by id: shared by a claim, exclusive for a change of a run or its holds (``models.runs.lock_runs``)
4. the share of all holds (``holds.TAKE_SHARE``), which excludes a hold that is being placed
5. the row of the stage: claims of one stage, and all that add slices to it, take turns
6. the row of the node: admissions on one node take turns
7. the rows of slices, by id
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from django.db import connection, transaction

from automation import conf, gate
from automation.errors import LeaseLost, NoRoom
from automation.gate import resource_limits, standstills
from automation.gate.loop_limit import LOOP_LIMIT
from automation.items.leased_slice import LeasedSlice
from automation.leases import split
from automation.models import WorkSlice
from automation.models.tables import ITEM, RUN, SLICE, STAGE
from automation.pipeline.definition import GROUP_SIZE, USES_NOTHING
from pause_manager import holds, nodes, resources
from pause_manager.holds.stops import Stop
from pause_manager.models import Hold
from pause_manager.nodes.machines import identity
from pause_manager.observability import gate_health
from pause_manager.times import KEEPS_PLACE_SECONDS

_NOBODY = (
    "lease_token = NULL, lease_owner = '', lease_keeper = '', lease_excused = false, lease_yield = '', "
    "leased_at = NULL, lease_expires_at = NULL, item_key = '', item_since = NULL, item_limit = NULL"
)
_AFRESH = (
    "crashes = 0, expiries = 0, waits = 0, waited_seconds = 0, waits_for = '', overrun_key = '', overrun_attempts = 0,"
)
NO_LEASE = _NOBODY + ", lease_node = '', lease_gpus = '{}'"
KEEPS = f"""
    slice.lost_at > statement_timestamp() - make_interval(secs => {KEEPS_PLACE_SECONDS})
    AND slice.lease_token IS NULL AND slice.finished_at IS NULL
"""
"""SQL over ``slice``: it was lost a moment ago and keeps its admission on its node."""


LEASE_LOST = Stop("lease_lost", "The slice was taken over by another worker.")


@dataclass(frozen=True)
class Worker:
    """The holder of a lease: ``owner`` is a process identity and a task, ``node`` the machine's name."""

    owner: str
    node: str
    boot_id: str = ""
    """Of its machine: the machine's name at the time of the claim replaces ``node``. An agent has none."""
    keeper: str = ""
    """The process that renews the lease: the worker's main process. Empty for an agent."""


class Lost(NamedTuple):
    """A lease that was ended, and the losses counted on the item after the cursor."""

    slice_id: int
    stage_run_id: int
    crashes: int
    expiries: int
    is_alone: bool
    is_crash: bool
    """Whether its process provably died on that item."""


class Holder(NamedTuple):
    """An owner of leases."""

    owner: str
    keeper: str
    is_excused: bool


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
        try:
            return _claim(stage_run_id, worker, limited, is_fresh=is_fresh, room=room, suits=suits)
        except _Limited as found:
            limited = found.names


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
        uses_nothing = cursor.fetchone()
        # 2. Lock the stage, if the gate lets it proceed.
        with gate_health.counted("gate"):
            cursor.execute(
                _OPEN_WITHOUT_RESOURCES if uses_nothing == (True,) else _OPEN,
                {"stage": stage_run_id, "boot_id": worker.boot_id, "node": worker.node, **gate.values()},
            )
        found = cursor.fetchone()
        if found is None:
            return None
        # 3. See that the node is not held. No machine is renamed once the shares are taken.
        node, kept, kept_gpus, concurrency, group_size, run_id, waits, terms = found
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
            **_suspicion(),
        }
        # 4. Take the slice that keeps its admission here, if there is one.
        row = None
        if room is not None and kept is not None and (suits is None or suits(node, kept_gpus)):
            cursor.execute(_CLAIM, {**values, "slice": kept, "gpus": kept_gpus})
            row = cursor.fetchone()
        # 5. Otherwise get room on the node, and take the next slice that is due.
        if row is None:
            gpus = list(room(node)) if room is not None else []
            cursor.execute(_CLAIM, {**values, "slice": None, "gpus": gpus})
            row = cursor.fetchone()
        # 6. Note that a worker has come, and try a suspect item alone.
        if row is not None and waits:
            standstills.end_waiting(run_id)
        work = LeasedSlice(*row) if row else None
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


def heartbeat(work: LeasedSlice) -> Stop | None:
    """Extend the lease of ``work`` and return why its holder must stop, if it must."""
    with connection.cursor() as cursor:
        cursor.execute(
            _HEARTBEAT, {"slice": work.slice_id, "token": work.token, "lease": conf.settings().lease_seconds}
        )
        row = cursor.fetchone()
    if row is None:
        return LEASE_LOST
    lifecycle, is_cancel_requested, gives_way = row
    return run_stop(lifecycle, is_cancel_requested) or (Stop("yield", gives_way) if gives_way else None)


@dataclass(frozen=True)
class Loop:
    """A stage loop with the slice that it holds or, without one, its stage alone."""

    stage_run_id: int
    slice_id: int | None = None
    token: int | None = None
    is_told_to_end: bool = False
    """Whether its process was told to end: its death then proves nothing."""
    number: int | None = None
    """Position in the slice, from 0, of an item in progress for long; ``None`` if there is none."""
    seconds: float | None = None
    """How long that item has been in progress."""
    limit: float | None = None
    """How long it may take; ``None``: no limit."""


@dataclass(frozen=True)
class Renewed:
    """The state of a loop, read when its lease was renewed."""

    lifecycle: str | None
    """Of the run; ``None`` if the stage no longer exists."""
    is_cancel_requested: bool
    stage_lifecycle: str | None
    is_held: bool
    """Whether it still holds its slice."""
    is_renewed: bool
    gives_way: str


def renew(loops: Sequence[Loop]) -> list[Renewed]:
    """Extend the leases of all ``loops`` and return the state of each, in their order. One statement.

    It waits for no lock: a locked slice is about to be committed or taken, and is not renewed now.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _RENEW,
            {
                "stages": [loop.stage_run_id for loop in loops],
                "slices": [loop.slice_id for loop in loops],
                "tokens": [loop.token for loop in loops],
                "excused": [loop.is_told_to_end for loop in loops],
                "numbers": [loop.number for loop in loops],
                "seconds": [loop.seconds for loop in loops],
                "limits": [loop.limit for loop in loops],
                "lease": conf.settings().lease_seconds,
            },
        )
        return [Renewed(*row) for row in cursor.fetchall()]


def run_stop(lifecycle: str, is_cancel_requested: bool) -> Stop | None:
    """Why a loop of a run in this state must stop, holds background."""
    if is_cancel_requested:
        return Stop("cancelled", "The run is being cancelled.")
    if lifecycle != "running":
        return Stop("finished", f"The run is {lifecycle}.")
    return None


def finish_hook(work: LeasedSlice, busy_seconds: float) -> None:
    """Finish a ``prepare`` or ``finish`` slice, which has no items. Raises :class:`LeaseLost`."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {SLICE} SET finished_at = statement_timestamp(), busy_seconds = busy_seconds + %s, {NO_LEASE} "
            f"WHERE id = %s AND lease_token = %s",
            [busy_seconds, work.slice_id, work.token],
        )
        if cursor.rowcount == 0:
            raise LeaseLost(f"Cannot finish slice {work.slice_id}: it is no longer held under token {work.token}.")


def release(work: LeasedSlice, *, is_crash: bool = False, is_expiry: bool = False) -> Lost | None:
    """Give the slice back as last committed; the losses on its current item, ``None`` if it is not held.

    ``is_crash`` if the item ended the attempt, ``is_expiry`` if something else did.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {SLICE} SET crashes = crashes + %s, expiries = expiries + %s, {NO_LEASE} "
            f"WHERE id = %s AND lease_token = %s RETURNING id, stage_run_id, crashes, expiries, is_alone",
            [int(is_crash), int(is_expiry), work.slice_id, work.token],
        )
        row = cursor.fetchone()
    return Lost._make([*row, is_crash]) if row else None


def give_back(work: LeasedSlice, *, afresh: bool = False) -> None:
    """Give the slice back as last committed; ``afresh``: all tries at its current item begin again.

    Raises :class:`LeaseLost`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {SLICE} SET {_AFRESH if afresh else ''} {NO_LEASE} WHERE id = %s AND lease_token = %s",
            [work.slice_id, work.token],
        )
        if cursor.rowcount == 0:
            raise LeaseLost(f"Cannot give slice {work.slice_id} back: it is no longer held under token {work.token}.")


def postpone(work: LeasedSlice, seconds: float, why: str) -> bool:
    """Give the slice back for at least ``seconds`` because of its current item; False if it is not held."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {SLICE} SET available_at = clock_timestamp() + make_interval(secs => %s), "
            f"waits = waits + 1, waited_seconds = waited_seconds + %s, waits_for = %s, {NO_LEASE} "
            f"WHERE id = %s AND lease_token = %s",
            [seconds, seconds, why, work.slice_id, work.token],
        )
        return bool(cursor.rowcount)


def split_off(work: LeasedSlice, group_size: int, *, seconds: float | None = None, why: str = "") -> None:
    """Set the current item (or group) of ``work`` apart in a slice of its own; the rest continues.

    With ``seconds`` it waits for so long, because of ``why``. Without, it may be done at once and has not waited.

    Raises :class:`LeaseLost`.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # As every claim does: writers that add slices to a stage take turns.
        cursor.execute(f"SELECT 1 FROM {STAGE} WHERE id = %s FOR NO KEY UPDATE", [work.stage_run_id])
        if not split.split_off_first(cursor, work, group_size, seconds=seconds, why=why):
            raise LeaseLost(f"Cannot continue slice {work.slice_id}: it is no longer held under token {work.token}.")


def committed_cursor(work: LeasedSlice) -> str | None:
    """Return the committed cursor if ``work`` is still held, else ``None``: decides a commit whose result was lost."""
    held = WorkSlice.objects.filter(pk=work.slice_id, lease_token=work.token)
    return held.values_list("cursor", flat=True).first()


def revoke(slice_id: int, token: int, *, number: int | None, attempts: int) -> str | None:
    """End the lease of a holder that does not stop; the key of its item, ``None`` if it is no longer held.

    With ``number``, the item of that number took too long at the last of its ``attempts``, which is noted. -1 stands
    for a hook or the set-up: it has an empty key, and what is noted of an item stays. ``None`` notes nothing.
    """
    with connection.cursor() as cursor:
        cursor.execute(_REVOKE, {"slice": slice_id, "token": token, "number": number, "attempts": attempts})
        row = cursor.fetchone()
    return row[0] if row else None


def reap(dead: Sequence[str] = (), *, crashed: Sequence[str] = (), alive: Sequence[str] = ()) -> list[Lost]:
    """End the leases that have expired or whose owner is known to be ``dead``; each at most once over all callers.

    For an owner that has ``crashed``, the current item is to blame. An owner that is ``alive`` and only silent keeps
    its lease ``silent_leases`` times as long. While the fleet is held no lease ends: lost slices are shown as lost.
    """
    settings = conf.settings()
    values: dict[str, Any] = {
        "dead": [*dead, *crashed],
        "crashed": list(crashed),
        "alive": list(alive),
        "patience": settings.lease_seconds * max(0.0, settings.silent_leases - 1),
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(holds.TAKE_SHARE)
        cursor.execute(_REAP, values)
        return [Lost(*row) for row in cursor.fetchall()]


def request_yield(slice_ids: Sequence[int], reason: str) -> int:
    """Ask the holders of the slices to give them back at the next item; returns how many were asked."""
    with connection.cursor() as cursor:
        cursor.execute(_YIELD, {"slices": list(slice_ids), "reason": reason})
        return int(cursor.rowcount)


def request_yield_of(resource: str, reason: str) -> int:
    """Ask every holder whose stage uses ``resource`` to give its slice back at the next item; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_YIELD_RESOURCE, {"resource": resource, "reason": reason})
        return int(cursor.rowcount)


def rename_machine(old: str, new: str) -> None:
    """Write the new name of a machine to the leases on it."""
    with connection.cursor() as cursor:
        cursor.execute(_RENAME, {"old": old, "new": new})


def holders() -> list[Holder]:
    """Return the owners of the leases in force."""
    leased = WorkSlice.objects.leased().order_by()
    return [Holder(*row) for row in leased.values_list("lease_owner", "lease_keeper", "lease_excused").distinct()]


# The run first: placing a hold locks the run before it waits for the shares.
_TAKE_SHARES = f"""
    WITH stage AS MATERIALIZED (
        SELECT run_id, {USES_NOTHING} AS uses_nothing FROM {STAGE} AS stage WHERE id = %s
    ), run AS MATERIALIZED (
        SELECT 1 FROM {RUN} WHERE id = (SELECT run_id FROM stage) FOR SHARE
    ), taken AS MATERIALIZED (
        {holds.TAKE_SHARE} FROM run)
    SELECT stage.uses_nothing FROM stage CROSS JOIN taken
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

# From the cursor on, which is seldom far behind: a loop commits several times per second.
ITEM_AT = f"""
    coalesce((SELECT item.key FROM {ITEM} AS item
               WHERE slice.phase = 1 AND {{number}} >= 0 AND item.made_by_id = slice.source_id
                 AND item.key >= slice.first_key AND item.key > slice.cursor AND item.key <= slice.last_key
               ORDER BY item.key OFFSET greatest(0, {{number}} - slice.processed - slice.failed) LIMIT 1), '')
"""
"""SQL over ``slice``: the key of its item of that number; empty for none."""

_COUNTS = "(%(number)s::int >= 0 OR (%(number)s::int = -1 AND overrun_key = ''))"
_REVOKE = f"""
    UPDATE {SLICE} AS slice
       SET overrun_key = CASE WHEN {_COUNTS} THEN {ITEM_AT.format(number="%(number)s::int")} ELSE overrun_key END,
           overrun_attempts = CASE WHEN {_COUNTS} THEN %(attempts)s ELSE overrun_attempts END,
           {NO_LEASE}
     WHERE slice.id = %(slice)s AND slice.lease_token = %(token)s
 RETURNING CASE WHEN %(number)s::int >= 0 THEN slice.overrun_key ELSE '' END
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
           {{terms}}
      FROM here CROSS JOIN {STAGE} AS stage
      JOIN {RUN} AS run ON run.id = stage.run_id
      LEFT JOIN LATERAL ({_KEPT}) AS kept ON true
     WHERE stage.id = %(stage)s AND stage.lifecycle = 'running' AND {{is_open}}
       FOR NO KEY UPDATE OF stage
"""
_OPEN = _OPEN_IF.format(terms=resource_limits.TERMS, is_open=gate.OPEN)
_OPEN_WITHOUT_RESOURCES = _OPEN_IF.format(terms="NULL", is_open=gate.OPEN_WITHOUT_RESOURCES)
"""For a stage that uses no resources: it need not be planned for what it would find of them."""

_ALONE = """
    ((crashes >= %(suspect_crashes)s OR expiries >= %(suspect_expiries)s) AND size - processed - failed <= %(group)s)
"""
"""SQL over a slice: what is left of it is one item, or group, on which loops were lost."""

_CLAIM = f"""
    WITH due AS (
        SELECT id, {_ALONE} AS is_alone FROM {SLICE}
         WHERE stage_run_id = %(stage)s AND finished_at IS NULL AND lease_token IS NULL
           AND (%(slice)s::bigint IS NULL OR id = %(slice)s)
           AND (available_at IS NULL OR available_at <= statement_timestamp())
           AND (%(is_fresh)s OR NOT {_ALONE})
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

_TAKE = f"""
    {_LEASE} WHERE slice.id = %(slice)s AND finished_at IS NULL AND lease_token IS NULL
{_LEASED}
"""

_HEARTBEAT = f"""
    UPDATE {SLICE} AS slice SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
      FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE slice.id = %(slice)s AND slice.lease_token = %(token)s AND stage.id = slice.stage_run_id
 RETURNING run.lifecycle, run.cancel_requested_at IS NOT NULL, slice.lease_yield
"""

_RENEW = f"""
    WITH loop AS MATERIALIZED (
        SELECT * FROM unnest(%(stages)s::bigint[], %(slices)s::bigint[], %(tokens)s::bigint[],
                             %(excused)s::boolean[], %(numbers)s::int[], %(seconds)s::float8[], %(limits)s::float8[])
            WITH ORDINALITY AS loop(stage, slice, token, is_told_to_end, item, seconds, may_take, number)
    ), free AS (
        SELECT slice.id, loop.is_told_to_end, loop.item, loop.seconds, loop.may_take FROM {SLICE} AS slice
          JOIN loop ON loop.slice = slice.id AND loop.token = slice.lease_token
         ORDER BY slice.id FOR NO KEY UPDATE OF slice SKIP LOCKED
    ), renewed AS (
        UPDATE {SLICE} AS slice
           SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s),
               lease_excused = lease_excused OR free.is_told_to_end,
               item_key = {ITEM_AT.format(number="free.item")},
               item_since = statement_timestamp() - make_interval(secs => free.seconds), item_limit = free.may_take
          FROM free WHERE slice.id = free.id
     RETURNING slice.id
    )
    SELECT run.lifecycle, run.cancel_requested_at IS NOT NULL, stage.lifecycle, slice.id IS NOT NULL,
           renewed.id IS NOT NULL, coalesce(slice.lease_yield, '')
      FROM loop
      LEFT JOIN {STAGE} AS stage ON stage.id = loop.stage
      LEFT JOIN {RUN} AS run ON run.id = stage.run_id
      LEFT JOIN {SLICE} AS slice ON slice.id = loop.slice AND slice.lease_token = loop.token
      LEFT JOIN renewed ON renewed.id = slice.id
     ORDER BY loop.number
"""

# A writer of several slices locks them by id.
_YIELD = f"""
    UPDATE {SLICE} AS slice SET lease_yield = %(reason)s
      FROM (SELECT id FROM {SLICE}
             WHERE id = ANY(%(slices)s) AND lease_token IS NOT NULL AND finished_at IS NULL AND lease_yield = ''
             ORDER BY id FOR NO KEY UPDATE) AS asked
     WHERE slice.id = asked.id
"""

_YIELD_RESOURCE = f"""
    UPDATE {SLICE} AS slice SET lease_yield = %(reason)s
      FROM (SELECT lease.id FROM {SLICE} AS lease JOIN {STAGE} AS stage ON stage.id = lease.stage_run_id
             WHERE lease.lease_token IS NOT NULL AND lease.finished_at IS NULL AND lease.lease_yield = ''
               AND stage.definition->'uses' ? %(resource)s
             ORDER BY lease.id FOR NO KEY UPDATE OF lease) AS asked
     WHERE slice.id = asked.id
"""

# Leased slices, and lost ones that may keep their admission.
_RENAME = f"""
    UPDATE {SLICE} AS slice SET lease_node = %(new)s
      FROM (SELECT id FROM {SLICE}
             WHERE lease_node = %(old)s AND finished_at IS NULL AND (lease_token IS NOT NULL OR lost_at IS NOT NULL)
             ORDER BY id FOR NO KEY UPDATE) AS of_node
     WHERE slice.id = of_node.id
"""

_REAP = f"""
    WITH lost AS (
        SELECT id, lease_owner = ANY(%(crashed)s::text[]) AS is_crash FROM {SLICE}
         WHERE lease_token IS NOT NULL AND finished_at IS NULL
           AND (lease_owner = ANY(%(dead)s::text[])
                OR lease_expires_at < clock_timestamp() - make_interval(secs =>
                       CASE WHEN lease_owner = ANY(%(alive)s::text[]) THEN %(patience)s::float8 ELSE 0 END))
           AND NOT EXISTS (SELECT 1 FROM {Hold._meta.db_table} WHERE released_at IS NULL AND scope = 'fleet')
         ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE {SLICE} AS slice
       SET crashes = crashes + lost.is_crash::int, expiries = expiries + (NOT lost.is_crash)::int,
           lost_at = clock_timestamp(), {_NOBODY}
      FROM lost WHERE slice.id = lost.id
 RETURNING slice.id, slice.stage_run_id, slice.crashes, slice.expiries, slice.is_alone, lost.is_crash
"""
