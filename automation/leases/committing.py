"""The checkpoints of one stage loop: at once, or behind its back, where one at most is under way while it works on."""

from __future__ import annotations

from collections.abc import Callable

from django.db import Error as DatabaseError

from automation.errors import CheckpointRefused
from automation.items.background_connection import Aside
from automation.items.leased_slice import LeasedSlice
from automation.leases import checkpoint, loop_beat
from automation.leases.checkpoint import Progress
from automation.leases.recovery import commit_surely
from pause_manager import database
from pause_manager.slots.slots import Slot


class Committer:
    """Commits on a connection beside the loop's own; ``committed`` hears of each checkpoint that stands.

    ``slot`` is told of a slice that ends with one: whoever beats for it then and finds it gone has lost nothing.
    """

    def __init__(self, slot: Slot, committed: Callable[[Progress], None]) -> None:
        self._aside = Aside()
        self._slot = slot
        self._committed = committed
        self._pending: tuple[LeasedSlice, Progress] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is under way."""
        return self._pending is not None

    def commit(self, work: LeasedSlice, done: Progress, *, release: bool = False) -> None:
        """Commit ``done`` after whatever is under way, and return when it stands. ``release`` gives the slice back."""
        self.wait()
        self._note(work, done, release=release)
        commit_surely(work, done, release=release)
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
            self._aside.send(*checkpoint.statement(work, done))
        except DatabaseError as error:
            self._commit_otherwise(error)

    def wait(self) -> None:
        """Return when nothing is under way.

        Raises :class:`LeaseLost` if the last checkpoint came too late, :class:`CheckpointRefused` if it cannot be kept.
        """
        if self._pending is None:
            return
        try:
            moved = self._aside.result()
        except DatabaseError as error:
            self._commit_otherwise(error)
            return
        work, done = self._take()
        checkpoint.accept(work, done, moved == b"1")
        self._committed(done)

    def close(self) -> None:
        """Let the last commit end, whatever comes of it, and give the connection back."""
        self._pending = None
        self._aside.close()

    def _note(self, work: LeasedSlice, done: Progress, *, release: bool = False) -> None:
        if release or done.cursor == work.last_key:
            self._slot.note(loop_beat.on(work, is_ending=True))

    def _commit_otherwise(self, error: DatabaseError) -> None:
        """The connection was lost, and perhaps the answer to a commit that was made. Raises any other ``error``."""
        work, done = self._take()
        if database.is_refused(error):
            raise CheckpointRefused(work.slice_id, error) from error
        if not database.is_away(error):
            raise error
        commit_surely(work, done, is_repeat=True)
        self._committed(done)

    def _take(self) -> tuple[LeasedSlice, Progress]:
        pending, self._pending = self._pending, None
        assert pending is not None
        return pending
