"""Checkpoints behind the loop's back: the loop works on while the database writes, one checkpoint at most ahead."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import connections


class Committer:
    """One thread with a database connection of its own, for one stage loop. Nothing is started until it is needed."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def begin(self, commit: Callable[[], None]) -> None:
        """Start ``commit`` once the one before it is done; raises what that one raised."""
        self.wait()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "slackwater-committer")
        self._pending = self._executor.submit(commit)

    def wait(self) -> None:
        """Return when nothing is under way; raises what the last commit raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Let the last commit end, whatever comes of it, and give thread and connection back."""
        if self._executor is not None:
            self._executor.submit(connections.close_all)
            self._executor.shutdown(wait=True)
            self._executor = None
            self._pending = None
