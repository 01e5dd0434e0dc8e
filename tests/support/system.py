"""``manage.py up``, started for real in a directory and on a port of its own, and an HTTP client of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
CHILDREN = {"web": "uvicorn", "worker": "stages@%h", "control": "control@%h", "beat": "beat"}


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return met


@dataclass
class System:
    """One running copy."""

    data_dir: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def printed(self) -> str:
        return (self.data_dir.parent / "printed.txt").read_text()

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as response:
                return bool(json.load(response)["ready"])
        except (OSError, urllib.error.URLError):
            return False

    def child(self, name: str) -> psutil.Process | None:
        for process in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if CHILDREN[name] in process.cmdline():
                    return process
        return None

    def everything(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """``GET``, or ``POST`` with a body, as the operator; the answer's JSON."""
        token = json.loads((self.data_dir / "credentials.json").read_text())["token"]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/{path}",
            headers={"Authorization": f"Token {token}", "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(60)


def launch(data_dir: Path, *arguments: str, port: int, concurrency: int = 1, **more_env: str) -> System:
    env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    env |= {"DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "backend.settings.dev", **more_env}
    command = [sys.executable, "manage.py", "up", "--port", str(port), *arguments]
    command += ["--concurrency", str(concurrency)]
    with (data_dir.parent / "printed.txt").open("ab") as printed:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=printed, stderr=subprocess.STDOUT)
    return System(data_dir, port, process)
