"""What survives a database restart: a checkpoint, and a slice that is given back. The fence makes both repeatable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import Error as DatabaseError

from automation import conf
from automation.errors import CheckpointRefused, LeaseLost
from automation.items.leased_slice import LeasedSlice
from automation.leases import checkpoint, claims
from automation.leases.checkpoint import Progress
from pause_manager import database

logger = logging.getLogger("automation.leases.recovery")


def commit_surely(
    work: LeasedSlice,
    done: Progress,
    *,
    release: bool = False,
    is_repeat: bool = False,
) -> None:
    """``checkpoint.commit``, tried again while the database is away, for as long as the lease can last.

    If the answer to a commit was lost (``is_repeat``: it may have been lost already), the cursor in the database
    tells whether it was made. Raises :class:`CheckpointRefused` if it is the content that cannot be committed.
    """
    gives_up_at = time.monotonic() + 2 * conf.settings().lease_seconds
    pause = 0.1
    while True:
        try:
            if is_repeat and _was_committed(work, done, release):
                checkpoint.accept(work, done, has_moved=True)
            else:
                checkpoint.commit(work, done, release=release)
            return
        except DatabaseError as error:
            if database.is_refused(error):
                raise CheckpointRefused(work.slice_id, error) from error
            if not database.is_away(error) or time.monotonic() > gives_up_at:
                raise
            logger.warning(
                "The database is %s: slice %d keeps what is done and asks again.", database.told(error), work.slice_id
            )
            database.close()
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
            is_repeat = True


def release_surely(work: LeasedSlice, *, is_expiry: bool, is_hurried: Callable[[], bool]) -> None:
    """``leases.release``, tried again while the database is away: nobody may take the slice before its time is up.

    Ends without it when the lease has run out for everybody, or at once if it ``is_hurried``.
    """
    settings = conf.settings()
    gives_up_at = time.monotonic() + settings.silent_leases * settings.lease_seconds
    while True:
        try:
            claims.release(work, is_expiry=is_expiry)
            return
        except DatabaseError as error:
            if not database.is_away(error) or time.monotonic() > gives_up_at or is_hurried():
                raise
            database.note_away(error, f"giving slice {work.slice_id} back")
            database.close()
            time.sleep(1.0)


def _was_committed(work: LeasedSlice, done: Progress, release: bool) -> bool:
    cursor = claims.committed_cursor(work)
    if cursor is None and not release and done.cursor != work.last_key:
        raise LeaseLost(f"Cannot checkpoint slice {work.slice_id}: it was taken over while the database was away.")
    if cursor is None:
        # The commit was to end the lease, and it has ended: by the commit, or by a takeover that redoes the work.
        return True
    return cursor == done.cursor and done.cursor != work.cursor
