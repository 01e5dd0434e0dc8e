"""What is asked of a storage besides Django's own interface, whatever storage it is; and when one is away."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage

from automation.errors import TryLater

AGAIN_SECONDS = 15.0
CHUNK_BYTES = 256 * 1024
_NOT_THERE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_OF_S3 = ("botocore", "boto3", "s3transfer", "urllib3")


class StorageAway(TryLater):
    """The storage cannot be used now: no fault of an item's. What asked for it is tried again."""

    def __init__(self, message: str) -> None:
        super().__init__(AGAIN_SECONDS, message, resource="")


class Unusable(Storage):
    """In place of a storage that is configured wrongly; its users get the error."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def _refuse(self, *args: Any, **options: Any) -> Any:
        raise ImproperlyConfigured(self.problem)

    _open = _save = delete = exists = listdir = size = url = _refuse


class Content(io.RawIOBase):
    """What is to be written, read a part at a time and counted; what goes wrong while it is read is nobody else's."""

    def __init__(self, given: bytes | bytearray | memoryview | IO[bytes] | File[Any]) -> None:
        if isinstance(given, bytes | bytearray | memoryview):
            given = io.BytesIO(given)
        if not callable(getattr(given, "read", None)):
            raise TypeError(f"expected bytes or a file that is open for reading bytes, got: {type(given).__name__}")
        self._given = given
        self.size = 0
        self.error: BaseException | None = None
        self.rewind()

    def rewind(self) -> None:
        """From the beginning, if it can be: a second try writes the same."""
        seek = getattr(self._given, "seek", None)
        if seek is not None and (not hasattr(self._given, "seekable") or self._given.seekable()):
            seek(0)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            part = self._given.read(size)
            if not isinstance(part, bytes):
                raise TypeError(f"expected a file that gives bytes, got one that gives {type(part).__name__}")
        except BaseException as error:
            self.error = error
            raise
        self.size += len(part)
        return part


class ContentFile(File):  # type: ignore[type-arg]
    """``Content`` as Django's storages take it: in parts, once."""

    def __init__(self, content: Content) -> None:
        super().__init__(content)  # type: ignore[arg-type]
        self.content = content

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        while part := self.content.read(chunk_size or CHUNK_BYTES):
            yield part

    def seekable(self) -> bool:
        return False


def is_away(error: BaseException) -> bool:
    """Whether ``error``, raised by a storage, speaks of the storage and not of a file that is not there."""
    if isinstance(error, StorageAway | ImproperlyConfigured):
        return True
    if type(error).__module__.partition(".")[0] in _OF_S3:
        return True
    return isinstance(error, OSError) and not isinstance(error, _NOT_THERE)


@contextmanager
def used(storage: Storage, content: Content | None = None) -> Iterator[None]:
    """Raises :class:`StorageAway` for what is wrong with the storage itself: it is full, away, or does not let us in.

    What went wrong while ``content`` was read is raised as it is.
    """
    try:
        yield
    except StorageAway:
        raise
    except Exception as error:
        if content is not None and content.error is not None:
            raise content.error from None
        if not is_away(error):
            raise
        raise StorageAway(f"Cannot use the storage {name_of(storage)}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return next(iter(str(text).strip().splitlines()), type(error).__name__)


def name_of(storage: Storage) -> str:
    """For people."""
    return str(getattr(storage, "place_name", None) or type(storage).__name__)


def is_shared(storage: Storage) -> bool:
    """Whether other machines may have the same storage: a directory is taken for a disk of its own."""
    declared = getattr(storage, "is_shared", None)
    return not isinstance(storage, FileSystemStorage) if declared is None else bool(declared)


def stream(storage: Storage, location: str, start: int, stop: int) -> Iterator[bytes]:
    """Bytes ``start`` to ``stop``, exclusive, some at a time. ``FileNotFoundError`` comes before the first."""
    own = getattr(storage, "stream", None)
    if own is not None:
        return iter(own(location, start, stop))
    return _parts(storage.open(location, "rb"), start, stop)


def _parts(file: IO[bytes], start: int, stop: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = stop - start
        while left > 0 and (part := file.read(min(CHUNK_BYTES, left))):
            left -= len(part)
            yield part


def replace(storage: Storage, name: str, fresh: str, content: File[Any]) -> None:
    """Let ``name`` have ``content``; in a directory it is written as ``fresh`` first and renamed when it is whole."""
    try:
        target = storage.path(name)
    except NotImplementedError:
        if not getattr(storage, "file_overwrite", False):
            storage.delete(name)
        storage.save(name, content)
        return
    saved = fresh
    try:
        saved = storage.save(fresh, content)
        os.replace(storage.path(saved), target)
    except BaseException:
        storage.delete(saved)
        raise


def delete_under(storage: Storage, folder: str) -> Iterator[int]:
    """Delete every file below ``folder``, and the folders that are empty then; how many files, a few at a time."""
    own = getattr(storage, "delete_under", None)
    if own is not None:
        yield from own(folder)
        return
    try:
        folders, files = storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, NotImplementedError):
        return
    for name in files:
        storage.delete(f"{folder}/{name}")
        yield 1
    for name in folders:
        yield from delete_under(storage, f"{folder}/{name}")
    # A file system deletes an empty folder by its name; other storages have none.
    storage.delete(folder)
