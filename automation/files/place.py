"""Which storage this is: a mark that is kept in it tells it from any other, whatever path or address leads there.

Processes that find the same mark have the same files. A directory may be copied with its mark: unless it is declared
shared, it is one machine's.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages

from automation.files.storage import StorageAway, is_shared, name_of, used
from pause_manager.probes import processes

MARK = ".slackwater-storage"
FRESH_SECONDS = 60.0
"""For so long what was found is believed: a directory may be mounted, or unmounted, meanwhile."""
AWAY_SECONDS = 5.0
"""For so long nobody asks again a storage that does not answer: to find that out takes some seconds each time."""
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Place:
    """Where a process keeps files."""

    id: str
    """The mark of the storage."""
    is_shared: bool
    name: str
    """For people; without credentials."""

    @property
    def key(self) -> str:
        """The same for all processes that share the files."""
        return self.id if self.is_shared else f"{processes.boot_id()}/{self.id}"

    def as_dict(self) -> dict[str, Any]:
        """As a worker tells it of itself."""
        return {"id": self.id, "place": self.key, "name": self.name}


_found: tuple[float, Storage, Place | StorageAway] | None = None


def here() -> Place:
    """The storage of this process. Raises ``StorageAway`` while it cannot be used."""
    global _found
    known, storage = _found, storages["default"]
    if known is None or known[1] is not storage or time.monotonic() > known[0]:
        found: Place | StorageAway
        try:
            found = look(storage)
        except StorageAway as away:
            found = away
        seconds = FRESH_SECONDS if isinstance(found, Place) else AWAY_SECONDS
        known = _found = (time.monotonic() + seconds, storage, found)
    if isinstance(known[2], StorageAway):
        raise StorageAway(str(known[2]))
    return known[2]


def look(storage: Storage) -> Place:
    """The place that ``storage`` is; its mark is made if it has none."""
    with used(storage):
        text = _mark(storage)
        if text is None:
            _make(storage)
            text = _mark(storage)
    if text is None or _ID.fullmatch(text) is None:
        raise StorageAway(f"Cannot use the storage {name_of(storage)}: its file {MARK} is damaged.")
    return Place(text, is_shared(storage), name_of(storage))


def _mark(storage: Storage) -> str | None:
    try:
        with storage.open(MARK, "rb") as file:
            return bytes(file.read(100)).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None


def _make(storage: Storage) -> None:
    content = f"{secrets.token_hex(16)}\n".encode()
    create_once = getattr(storage, "create_once", None)
    if create_once is not None:
        create_once(MARK, content)
    elif not storage.exists(MARK):
        storage.save(MARK, ContentFile(content))
