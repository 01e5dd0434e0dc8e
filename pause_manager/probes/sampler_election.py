"""Where the workers of one container find each other: who is here, who of them samples, and what was told last.

Nothing here is shared with other containers: those meet in ``pause_manager.nodes.machines.containers``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import time
from functools import lru_cache
from pathlib import Path

from pause_manager.probes import own_processes, processes
from pause_manager.probes.sample import Sample

FORGOTTEN_SECONDS = 86_400.0


class UnsafeDirectory(Exception):
    """Somebody else could write what the workers of this machine believe; the sentence names the directory."""


@lru_cache(maxsize=1)
def default_directory() -> Path:
    """A directory that no other user can have made: of this login or service, or of root.

    Where there is none, one whose name nobody can foresee, for this worker and what it forks: the worker is a container
    of its own then, which meets the others where containers do. Ask before you fork.
    """
    for home in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}", "/run"):
        if home and _is_private(Path(home)):
            return Path(home) / "slackwater"
    alone = f"slackwater-{secrets.token_hex(8)}"
    processes.stand_apart(alone)
    return Path(tempfile.gettempdir()) / alone


class SamplerElection:
    """A directory of this container. Everything in it may be lost at any time; it is made again.

    What is in it is believed, so it must be this user's alone. Without ``directory`` it is :func:`default_directory`.
    """

    def __init__(self, directory: str = "", own_root_pid: int = 0) -> None:
        self._base = None if directory else default_directory()
        self._path = (self._base or Path(directory)) / processes.container_name()
        self._workers = self._path / "workers"
        self._sample = self._path / "sample.json"
        self._lock: int | None = None
        self._root = own_root_pid if own_root_pid in own_processes.ancestors(os.getpid()) else 0

    def register(self) -> None:
        """Say that this process is a worker; known until it ends. Raises :class:`UnsafeDirectory`."""
        self._make()
        _make_private(self._workers)
        mine = self._workers / str(os.getpid())
        if not mine.exists():
            _replace(mine, processes.identity().encode())

    def roots(self) -> frozenset[int]:
        """The processes whose trees are ours: this one, the workers of this machine, the supervisor above us."""
        found = {os.getpid(), *([self._root] if self._root else [])}
        with contextlib.suppress(OSError):
            for entry in self._workers.iterdir():
                if not entry.name.isdigit():
                    continue
                if processes.is_dead(_read(entry).decode()):
                    entry.unlink(missing_ok=True)
                else:
                    found.add(int(entry.name))
        return frozenset(found)

    def try_to_be_sampler(self) -> bool:
        """Return whether this process samples the machine, which only one does; it does until it ends."""
        if self._lock is not None and not self._is_lock_in_place():
            self.stop_sampling()
        if self._lock is None:
            self._make()
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self._path / "sampler.lock", flags, 0o600)
            try:
                # A lock of this kind is not inherited: what a killed worker leaves behind does not hold it.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                return False
            self._lock = lock
            self._sweep()
        return True

    def stop_sampling(self) -> None:
        """Let another worker sample."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def leave(self) -> None:
        """Say that this worker ends."""
        self.stop_sampling()
        with contextlib.suppress(OSError):
            (self._workers / str(os.getpid())).unlink()
        if self._base is not None and processes.stands_apart():
            shutil.rmtree(self._base, ignore_errors=True)

    def tell(self, sample: Sample) -> None:
        """Let the other workers of this machine know ``sample``."""
        _replace(self._sample, sample.as_json())

    def hear(self, *, within_seconds: float) -> Sample | None:
        """Return what the sampler told last, if it is no older than that."""
        try:
            if not _is_private(self._path) or time.time() - self._sample.lstat().st_mtime > within_seconds:
                return None
            return Sample.of_json(_read(self._sample))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _make(self) -> None:
        if self._base is not None:
            _make_private(self._base)
        else:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(self._path)

    def _sweep(self) -> None:
        """Remove what containers that are gone have left beside ours: a volume outlives them."""
        for beside in self._path.parent.iterdir():
            with contextlib.suppress(OSError):
                is_old = time.time() - beside.lstat().st_mtime > FORGOTTEN_SECONDS
                if is_old and beside != self._path and (beside / "sampler.lock").exists():
                    shutil.rmtree(beside)

    def _is_lock_in_place(self) -> bool:
        """Return whether the file we hold is still the one that others would lock."""
        try:
            there = os.stat(self._path / "sampler.lock")
            return self._lock is not None and os.fstat(self._lock).st_ino == there.st_ino
        except OSError:
            return False


def _make_private(path: Path) -> None:
    """Have a directory at ``path`` that only this user can write to. Raises :class:`UnsafeDirectory`."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeDirectory(f"Cannot use {path}: it is not a directory.")
    if found.st_uid != os.geteuid():
        raise UnsafeDirectory(
            f"Cannot use {path}: it belongs to the user with id {found.st_uid}, and this worker's user has id "
            f"{os.geteuid()}. Remove it, or name another directory in PAUSE_MANAGER['runtime_dir']."
        )
    if found.st_mode & 0o022:
        path.chmod(0o700)  # made by an earlier version, with the mask of that time


def _is_private(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _read(path: Path) -> bytes:
    """All of a file of ours, which is no link."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to somebody else")
        return file.read()


def _replace(path: Path, content: bytes) -> None:
    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
