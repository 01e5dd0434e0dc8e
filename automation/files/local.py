"""A directory as storage: a file is on the disk, whole, before anybody is told its name."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage


class LocalFiles(FileSystemStorage):
    """``is_shared``: it is declared that other machines have the same directory, as by NFS."""

    def __init__(self, *args: Any, is_shared: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_shared = is_shared

    @property
    def place_name(self) -> str:
        return f"file://{self.location}"

    def _save(self, name: str, content: File[Any]) -> str:
        saved: str = super()._save(name, content)  # type: ignore[misc]
        self._sync(Path(self.path(saved)))
        return saved

    def _sync(self, path: Path) -> None:
        """Power may fail: first the content, then the entries that lead to it."""
        root = Path(self.location)
        for each in (path, *path.parents):
            handle = os.open(each, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            if each == root:
                return

    def create_once(self, name: str, content: bytes) -> None:
        """Write ``name`` unless it is there: of several that do at once, one wins, and nobody sees half of it."""
        path = Path(self.path(name))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        fresh.write_bytes(content)
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
        finally:
            fresh.unlink()
        self._sync(path)

    def show_as(self, name: str, location: str) -> None:
        """Let ``name`` lead to ``location``, for people who look at the directory; nobody reads files by it.

        Where the file system has no symbolic links there is nothing to see.
        """
        path, target = Path(self.path(name)), Path(self.path(location))
        fresh = path.with_name(f".{secrets.token_hex(8)}")
        with contextlib.suppress(OSError):
            fresh.symlink_to(os.path.relpath(target, path.parent))
            try:
                fresh.replace(path)
            except OSError:
                fresh.unlink()
                raise
