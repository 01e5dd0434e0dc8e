"""``ctx.artifacts``: the files of one run and stage, for the code of a stage. It takes no database; ``fenced`` does."""

from __future__ import annotations

from typing import IO
from uuid import UUID

from django.core.files.storage import Storage, default_storage

from automation.files import names
from automation.files.storage import Content, ContentFile, replace, used


class Artifacts:
    """Files of one run and stage, read and written a part at a time.

    A name is a relative path, checked before anything is touched (``FileNameRefused``). Writing a name again replaces
    the file whole. While the storage is away or full the item waits (``StorageAway``). In a run files are written as
    :class:`~automation.files.fenced.FencedArtifacts` says; this class uses a storage as it is, for trying a stage.
    """

    def __init__(self, run_id: UUID, stage_slug: str, storage: Storage | None = None) -> None:
        self._run_id = run_id
        self._stage_slug = stage_slug
        self._storage: Storage = default_storage if storage is None else storage

    def name(self, name: str, *, stage: str | None = None) -> str:
        """The full name of a file of this stage, or of another ``stage`` of the same run, as outputs keep it."""
        return names.full_name(self._run_id, self._stage_slug if stage is None else stage, name)

    def save(self, name: str, content: bytes | IO[bytes]) -> str:
        """Write ``content``, bytes or a file that is open for reading bytes, and return the full name.

        When it returns the file is there for any worker that continues the run. It is read from its beginning if it can
        seek, and never whole into memory.
        """
        full = self.name(name)
        try:
            source = Content(content)
        except TypeError as error:
            raise TypeError(f"Cannot save {name!r}: {error}.") from None
        self._write(name, full, source)
        return full

    def open(self, name: str, *, stage: str | None = None) -> IO[bytes]:
        """The file for reading bytes; ``FileNotFoundError`` if it was never saved.

        It can seek. From S3 it is fetched when it is first read, large ones onto the local disk.
        """
        full = self.name(name, stage=stage)
        location = self._find(name, stage) or full
        with used(self._storage):
            opened: IO[bytes] = self._storage.open(location, "rb")
        return opened

    def read(self, name: str, *, stage: str | None = None) -> bytes:
        """The whole content of a file that is known to be small."""
        with self.open(name, stage=stage) as file, used(self._storage):
            return file.read()

    def exists(self, name: str, *, stage: str | None = None) -> bool:
        """Whether there is such a file."""
        full = self.name(name, stage=stage)
        if self._find(name, stage) is not None:
            return True
        with used(self._storage):
            return self._storage.exists(full)

    def delete(self, name: str) -> None:
        """Take the file away, if there is one."""
        full = self.name(name)
        with used(self._storage):
            self._storage.delete(full)

    def _write(self, name: str, full: str, source: Content) -> None:
        with used(self._storage, source):
            replace(self._storage, full, names.new_location(self._run_id, self._stage_slug, name), ContentFile(source))

    def _find(self, name: str, stage: str | None) -> str | None:
        """Where the content is, if that is not where the full name says."""
        return None
