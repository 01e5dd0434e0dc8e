"""The end of a lease by its holder, or because its holder does not stop: with the slice as last committed."""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection, transaction

from automation.errors import LeaseLost
from automation.items.leased_slice import LeasedSlice
from automation.leases import split
from automation.leases.lease_columns import AFRESH, ITEM_AT, NO_LEASE
from automation.models import WorkSlice
from automation.models.tables import SLICE, STAGE


class Lost(NamedTuple):
    """A lease that was ended, and the losses counted on the item after the cursor."""

    slice_id: int
    stage_run_id: int
    crashes: int
    expiries: int
    is_alone: bool
    is_crash: bool
    """Whether its process provably died on that item."""


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
            f"UPDATE {SLICE} SET {AFRESH if afresh else ''} {NO_LEASE} WHERE id = %s AND lease_token = %s",
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


_COUNTS = "(%(number)s::int >= 0 OR (%(number)s::int = -1 AND overrun_key = ''))"
_REVOKE = f"""
    UPDATE {SLICE} AS slice
       SET overrun_key = CASE WHEN {_COUNTS} THEN {ITEM_AT.format(number="%(number)s::int")} ELSE overrun_key END,
           overrun_attempts = CASE WHEN {_COUNTS} THEN %(attempts)s ELSE overrun_attempts END,
           {NO_LEASE}
     WHERE slice.id = %(slice)s AND slice.lease_token = %(token)s
 RETURNING CASE WHEN %(number)s::int >= 0 THEN slice.overrun_key ELSE '' END
"""
