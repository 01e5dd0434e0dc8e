"""Small kernel files that are read each second: opened once, read from the start each time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LARGEST_BYTES = 65_536


class ProcFile:
    """A file of /proc or of a cgroup whose descriptor is kept. ``read`` answers ``None`` while it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def read(self) -> str | None:
        """All of the file, as it is now."""
        try:
            if self._fd is None:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._fd, LARGEST_BYTES, 0).decode("ascii", "replace")
        except OSError:
            self.close()
            return None

    def number(self) -> int | None:
        """Its one number; ``None`` if it says ``max`` or cannot be read."""
        text = self.read()
        try:
            return int(text) if text is not None else None
        except ValueError:
            return None

    def field(self, name: str) -> int | None:
        """The number after ``name`` in a file of ``name number`` lines."""
        for line in (self.read() or "").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
        return None

    def close(self) -> None:
        """Let go of the descriptor; the next read opens the file again."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None
