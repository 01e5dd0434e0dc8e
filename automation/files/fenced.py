"""``ctx.artifacts`` of a loop: what it writes takes its place only while its slice is held, see ``catalog``."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from django.db import DatabaseError, connection

from automation.files import catalog, names, place
from automation.files.artifacts import Artifacts
from automation.files.catalog import Lease
from automation.files.storage import Content, ContentFile, used
from pause_manager import database

P = ParamSpec("P")
T = TypeVar("T")


class FencedArtifacts(Artifacts):
    """Writing a name again replaces the file at once and whole: readers get the old content or the new one.

    ``held`` is the current slice, in whose name files are written; without one they can only be read. A worker that has
    lost it writes nothing (``LeaseLost``). From threads and coroutines of the stage's own it works as well.
    """

    def __init__(self, run_id: UUID, stage_slug: str, held: Callable[[], Lease | None]) -> None:
        super().__init__(run_id, stage_slug)
        self._held = held
        self._thread = threading.get_ident()
        self._bound: place.Place | None = None

    def delete(self, name: str) -> None:
        """Take the file away, if there is one; who is reading it gets to its end."""
        self.name(name)
        work = self._work("delete", name)
        self._bind(work)
        self._ask(catalog.remove, work, name)
        # The link that shows it, or the file itself if an earlier release wrote it.
        super().delete(name)

    def _write(self, name: str, full: str, source: Content) -> None:
        work = self._work("save", name)
        self._bind(work)
        location = names.new_location(self._run_id, self._stage_slug, name)
        row = self._ask(catalog.reserve, work, name, location)
        try:
            with used(self._storage, source):
                location = self._storage.save(location, ContentFile(source))
            self._ask(catalog.publish, work, row, name, location, source.size)
        except DatabaseError:
            # Perhaps it takes its place all the same, and only the answer was lost: by its row it is found if not.
            raise
        except BaseException:
            # What cannot be deleted now is found by its row.
            with contextlib.suppress(Exception):
                if self._location(name, None) != location:  # else it has taken its place, and was interrupted then
                    self._storage.delete(location)
            raise
        self._show(full, name, location)

    def _show(self, full: str, name: str, location: str) -> None:
        """Show in the directory, if it is one, what the name has now: the last to show it has looked after that."""
        show = getattr(self._storage, "show_as", None)
        shown, now = "", location
        while show is not None and now and now != shown:
            show(full, now)
            shown, now = now, self._location(name, None) or ""

    def _find(self, name: str, stage: str | None) -> str | None:
        # A worker that has another storage must not take the file for missing.
        if (work := self._held()) is not None:
            self._bind(work)
        return self._location(name, stage)

    def _work(self, verb: str, name: str) -> Lease:
        work = self._held()
        if work is None:
            raise RuntimeError(f"Cannot {verb} {name!r}: no item, prepare or finish is in progress.")
        return work

    def _bind(self, work: Lease) -> None:
        """See that the run's files are where this process writes. Asked again as often as that is looked up."""
        here = place.here()
        if here is not self._bound:
            self._ask(catalog.bind, work, self._run_id, here)
            self._bound = here

    def _location(self, name: str, stage: str | None) -> str | None:
        found = self._ask(catalog.find, self._run_id, self._stage_slug if stage is None else stage, name)
        return None if found is None else found.location

    def _ask(self, do: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Ask the database: on the loop's own connection, or from a thread or coroutine of the stage's on another.

        In a transaction of the stage's on another as well: what is written is there however that ends, and the slice is
        held no longer than a statement takes.
        """
        is_own = threading.get_ident() == self._thread
        if _is_in_event_loop() or (is_own and connection.in_atomic_block):
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(lambda: _on_another(do, *args, **options)).result()
        if not is_own:
            return _on_another(do, *args, **options)
        return do(*args, **options)


def _on_another(do: Callable[..., T], *args: Any, **options: Any) -> T:
    try:
        return do(*args, **options)
    finally:
        database.close()


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
