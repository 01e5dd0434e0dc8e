"""Files of a run for those that show or copy them: found by name, read a part at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.core.files.storage import default_storage
from django.utils import timezone

from automation.errors import FileNameRefused
from automation.files import catalog, names
from automation.files.storage import StorageAway, stream, used
from automation.models import StageRun
from automation.models.files import Artifact

PAGE = 500


@dataclass(frozen=True)
class StoredFile:
    """A file as it is now. Replaced meanwhile, it can still be read for ``replaced_file_seconds``."""

    location: str
    size: int
    written_at: datetime

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Bytes ``start`` to ``stop``, exclusive, some at a time. ``FileNotFoundError`` comes before the first."""
        with used(default_storage):
            return stream(default_storage, self.location, start, self.size if stop is None else stop)


def find(run_id: UUID, path: str) -> StoredFile | None:
    """The file ``stage/name`` of the run; ``None`` if there is none, or none can be called so.

    Raises ``StorageAway``. Files of earlier releases have no row.
    """
    stage, _, name = path.partition("/")
    try:
        full = names.full_name(run_id, stage, name)
    except FileNameRefused:
        return None
    kept = catalog.find(run_id, stage, name)
    if kept is not None:
        return StoredFile(kept.location, kept.size, kept.written_at)
    with used(default_storage):
        try:
            # First, because a folder has a size too.
            default_storage.open(full, "rb").close()
            size = default_storage.size(full)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        try:
            written_at = default_storage.get_modified_time(full)
        except NotImplementedError:
            written_at = timezone.now()
    return StoredFile(full, size, written_at)


def existing(run_id: UUID, stage_slug: str, wanted: Sequence[str]) -> set[str]:
    """Those of the ``wanted`` names that the stage has files of; none while the storage is away and must be asked."""
    found = set(catalog.find_all(run_id, stage_slug, wanted))
    missing = [name for name in wanted if name not in found]
    # Of earlier releases: not asked for where files have rows.
    if missing and not Artifact.objects.filter(stage_run__run=run_id, is_current=True).exists():
        with contextlib.suppress(StorageAway), used(default_storage):
            found |= {name for name in missing if default_storage.exists(names.full_name(run_id, stage_slug, name))}
    return found


def has_any(run_id: UUID) -> bool:
    """Whether the run has files; not known, and False, of one of an earlier release while the storage is away."""
    if Artifact.objects.filter(stage_run__run=run_id, is_current=True).exists():
        return True
    with contextlib.suppress(StorageAway, FileNotFoundError, NotADirectoryError), used(default_storage):
        return any(default_storage.listdir(names.folder(run_id)))
    return False


def every(run_id: UUID) -> Iterator[tuple[str, StoredFile]]:
    """(``stage/name``, file) of all that the run's stages have written, stage by stage."""
    for pk, slug in StageRun.objects.filter(run=run_id).order_by("position").values_list("pk", "slug"):
        rows = Artifact.objects.filter(stage_run=pk, is_current=True).order_by("name")
        after = ""
        while page := list(rows.filter(name__gt=after).values_list("name", "location", "size", "written_at")[:PAGE]):
            for name, location, size, at in page:
                if at is not None:
                    yield f"{slug}/{name}", StoredFile(location, size or 0, at)
            after = page[-1][0]
