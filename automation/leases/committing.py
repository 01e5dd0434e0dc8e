"""The checkpoints of one stage loop: at once, or behind its back, where at most one runs while it works on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import Error as DatabaseError

from automation import conf
from automation.errors import CheckpointRefused, LeaseLost
from automation.items.background_connection import BackgroundConnection
from automation.items.leased_slice import LeasedSlice
from automation.leases import checkpoint, loop_heartbeat, releases
from automation.leases.checkpoint import Progress
from pause_manager import database
from pause_manager.slots.slot_table import Slot

logger = logging.getLogger("automation.leases.committing")


class AsyncCommitter:
    """Commits on a connection beside the loop's own; ``committed`` hears of each checkpoint that stands.

    ``slot`` is told of a slice that ends with one: a heartbeat that then finds it gone has lost nothing.
    """

    def __init__(self, slot: Slot, committed: Callable[[Progress], None]) -> None:
        self._background = BackgroundConnection()
        self._slot = slot
        self._committed = committed
        self._pending: tuple[LeasedSlice, Progress] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is in progress."""
        return self._pending is not None

    def commit(self, work: LeasedSlice, done: Progress, *, release: bool = False) -> None:
        """Commit ``done`` after what is in progress, and return when it stands. ``release`` gives the slice back."""
        self.wait()
        self._note(work, done, release=release)
        commit_with_retry(work, done, release=release)
        self._committed(done)

    def begin(self, work: LeasedSlice, done: Progress) -> None:
        """Start to commit ``done`` once the checkpoint before it stands; raises what became of that one.

        What is ``staged`` takes more than a statement, and stands when this returns.
        """
        if done.staged:
            self.commit(work, done)
            return
        self.wait()
        self._note(work, done)
        self._pending = (work, done)
        try:
            self._background.send(*checkpoint.statement(work, done))
        except DatabaseError as error:
            self._commit_otherwise(error)

    def wait(self) -> None:
        """Return when nothing is in progress.

        Raises :class:`LeaseLost` if the last checkpoint came too late, :class:`CheckpointRefused` if it cannot be kept.
        """
        if self._pending is None:
            return
        try:
            moved = self._background.result()
        except DatabaseError as error:
            self._commit_otherwise(error)
            return
        work, done = self._take()
        checkpoint.accept(work, done, moved == b"1")
        self._committed(done)

    def close(self) -> None:
        """Let the last commit end, whatever comes of it, and give the connection back."""
        self._pending = None
        self._background.close()

    def _note(self, work: LeasedSlice, done: Progress, *, release: bool = False) -> None:
        if release or done.cursor == work.last_key:
            self._slot.note(loop_heartbeat.on(work, is_ending=True))

    def _commit_otherwise(self, error: DatabaseError) -> None:
        """The connection was lost, and perhaps the answer to a commit that was made. Raises any other ``error``."""
        work, done = self._take()
        if database.is_refused(error):
            raise CheckpointRefused(work.slice_id, error) from error
        if not database.is_away(error):
            raise error
        commit_with_retry(work, done, is_repeat=True)
        self._committed(done)

    def _take(self) -> tuple[LeasedSlice, Progress]:
        pending, self._pending = self._pending, None
        assert pending is not None
        return pending


def commit_with_retry(
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
                "The database is %s: slice %d keeps what is done and asks again.",
                database.describe(error),
                work.slice_id,
            )
            database.close()
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
            is_repeat = True


def release_with_retry(work: LeasedSlice, *, is_expiry: bool, is_hurried: Callable[[], bool]) -> None:
    """``leases.release``, tried again while the database is away: nobody may take the slice before its time is up.

    Ends without it when the lease has run out for everybody, or at once if it ``is_hurried``.
    """
    settings = conf.settings()
    gives_up_at = time.monotonic() + settings.silent_leases * settings.lease_seconds
    while True:
        try:
            releases.release(work, is_expiry=is_expiry)
            return
        except DatabaseError as error:
            if not database.is_away(error) or time.monotonic() > gives_up_at or is_hurried():
                raise
            database.log_outage(error, f"giving slice {work.slice_id} back")
            database.close()
            time.sleep(1.0)


def _was_committed(work: LeasedSlice, done: Progress, release: bool) -> bool:
    cursor = releases.committed_cursor(work)
    if cursor is None and not release and done.cursor != work.last_key:
        raise LeaseLost(f"Cannot checkpoint slice {work.slice_id}: it was taken over while the database was away.")
    if cursor is None:
        # The commit was to end the lease, and it has ended: by the commit, or by a takeover that redoes the work.
        return True
    return cursor == done.cursor and done.cursor != work.cursor
