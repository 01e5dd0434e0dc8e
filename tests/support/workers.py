"""Real Celery workers for tests, on the test's database and Redis. Nothing of them outlives the test."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from backend.embedded import die_with_parent
from tests.support import containers

REPOSITORY = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 20, every: float = 0.05) -> T:
    """What ``condition`` returned last: at the first truth, or when ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return met


class Workers:
    """Starts ``celery worker`` processes by name and kills what is left of them."""

    def __init__(self, root: Path, env: dict[str, str], app: str = "backend", directory: Path = REPOSITORY) -> None:
        self.root = root
        self.env = env
        self.app = app
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._orphans: list[psutil.Process] = []

    def start(
        self,
        name: str,
        *options: str,
        wait: bool = True,
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """A worker of queue ``name`` (prefork, one child), or with ``options`` of your own; ``within`` a container."""
        command = [
            *within,
            sys.executable,
            "-m",
            "celery",
            "--quiet",
            "-A",
            self.app,
            "worker",
            "-l",
            "INFO",
            "-n",
            f"{name}@%h",
        ]
        command += ["--without-gossip", "--without-mingle", *(options or ("-Q", name, "-c", "1"))]
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        self.processes[name] = process
        if wait:
            assert eventually(lambda: " ready." in self.said(name), 40), self.said(name)[-3000:]
        return process

    def said(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")

    def kill(self, name: str) -> None:
        """SIGKILL to the main process alone."""
        process = self.processes.pop(name)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(10)
        self._orphans += children

    def stop(self, name: str) -> None:
        """SIGTERM, and wait: a child whose result was lost to its pool is let go by it after 30 s."""
        process = self.processes[name]
        (containers.inside(process) if process.args[0] == "unshare" else process).terminate()  # type: ignore[index]
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} does not end: {self.said(name)[-3000:]}") from None
        del self.processes[name]

    def close(self) -> None:
        for process in self.processes.values():
            everything = [psutil.Process(process.pid)] if process.poll() is None else []
            for root in everything:
                for one in [*root.children(recursive=True), root]:
                    with contextlib.suppress(psutil.Error):
                        one.kill()
            process.wait(10)
        for orphan in self._orphans:
            with contextlib.suppress(psutil.Error):
                orphan.kill()

    def _log(self, name: str) -> Path:
        return self.root / f"{name}.log"
