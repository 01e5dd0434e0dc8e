"""Where the workers of one machine find each other: who is here, who of them samples, and what it saw last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path

from pause_manager.probes import own, processes
from pause_manager.samples import Sample


class Lodging:
    """A directory of this machine. Everything in it may be lost at any time; it is made again."""

    def __init__(self, directory: str, own_root_pid: int = 0) -> None:
        base = Path(directory or f"{tempfile.gettempdir()}/slackwater-{os.getuid()}")
        self._path = base / processes.node_name()
        self._workers = self._path / "workers"
        self._sample = self._path / "sample.json"
        self._lock: int | None = None
        self._root = own_root_pid if own_root_pid in own.ancestors(os.getpid()) else 0

    def register(self) -> None:
        """Say that this process is a worker; known until it ends."""
        self._workers.mkdir(mode=0o700, parents=True, exist_ok=True)
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
                if processes.is_dead(entry.read_text()):
                    entry.unlink(missing_ok=True)
                else:
                    found.add(int(entry.name))
        return frozenset(found)

    def try_to_be_sampler(self) -> bool:
        """Whether this process samples the machine, which only one does; it does until it ends."""
        if self._lock is not None and not self._is_lock_in_place():
            self.stop_sampling()
        if self._lock is None:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._path / "sampler.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # A lock of this kind is not inherited: what a killed worker leaves behind does not hold it.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                return False
            self._lock = lock
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

    def tell(self, sample: Sample) -> None:
        """Let the other workers of this machine know ``sample``."""
        _replace(self._sample, sample.as_json())

    def hear(self, *, within_seconds: float) -> Sample | None:
        """What the sampler told last, if it is no older than that."""
        try:
            if time.time() - self._sample.stat().st_mtime > within_seconds:
                return None
            return Sample.of_json(self._sample.read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _is_lock_in_place(self) -> bool:
        """Whether the file we hold is still the one that others would lock."""
        try:
            there = os.stat(self._path / "sampler.lock")
            return self._lock is not None and os.fstat(self._lock).st_ino == there.st_ino
        except OSError:
            return False


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(path)
