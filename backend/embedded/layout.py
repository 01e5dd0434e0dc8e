"""Paths and URLs of the embedded servers of one data directory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

SUPERUSER = "slackwater"
DATABASE = "slackwater"
LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux


class EmbeddedError(Exception):
    """An embedded server cannot be started; the message says why in one sentence."""


@dataclass(frozen=True)
class Layout:
    """Paths and URLs of the embedded servers of one data directory. Only :meth:`create` creates any."""

    data_dir: Path

    @property
    def postgres_dir(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def redis_dir(self) -> Path:
        return self.data_dir / "redis"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def socket_dir(self) -> Path:
        """``run`` in the data directory, or a short private directory when that path is too long for a socket."""
        near = self.data_dir / "run"
        if len(os.fsencode(near / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET_PATH:
            return near
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"slackwater-{os.getuid()}-{digest}"

    @property
    def database_url(self) -> str:
        return f"postgresql://{SUPERUSER}@{quote(str(self.socket_dir), safe='')}/{DATABASE}"

    @property
    def redis_url(self) -> str:
        return f"unix://{quote(str(self.socket_dir / 'redis.sock'))}?db=0"

    def create(self) -> None:
        """Create the directories, private to this user."""
        for directory in (self.data_dir, self.redis_dir, self.log_dir, self.socket_dir):
            private_directory(directory)


def private_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise EmbeddedError(f"Cannot create {directory}: {sentence(error)}.") from error
    if found.st_uid != os.getuid() and os.getuid() != 0:
        raise EmbeddedError(f"Cannot use {directory}: it belongs to another user.")
    if directory.is_symlink() or not os.access(directory, os.W_OK | os.X_OK):
        raise EmbeddedError(f"Cannot use {directory}: it is not a directory that this user can write to.")


def sentence(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
