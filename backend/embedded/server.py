"""The process of an embedded server: starting, watching and stopping it."""

from __future__ import annotations

import contextlib
import ctypes
import re
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import psutil

from backend.embedded.layout import EmbeddedError, Layout, sentence

START_SECONDS = 30
STOP_SECONDS = 15


def die_with_parent(signum: int) -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that makes Linux send ``signum`` to the child when its parent ends, for any reason."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        pr_set_pdeathsig = 1
        libc.prctl(pr_set_pdeathsig, signum, 0, 0, 0)

    return ask_kernel


@dataclass
class Server(ABC):
    """One server process. Subclasses define how it is started and probed."""

    layout: Layout
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    name: ClassVar[str] = "server"
    stop_signals: ClassVar[Sequence[int]] = (signal.SIGTERM, signal.SIGKILL)

    @property
    def log(self) -> Path:
        return self.layout.log_dir / f"{self.name.lower()}.log"

    def is_alive(self) -> bool:
        """Return whether the process that :meth:`start` started still runs."""
        return self.process is not None and self.process.poll() is None

    @abstractmethod
    def start(self) -> None:
        """Start the server and return when it responds, or raise :class:`EmbeddedError`."""

    def stop(self) -> None:
        """Stop cleanly, by force if that takes too long. Does nothing if the server is not running."""
        process, self.process = self.process, None
        if process is not None:
            end(psutil.Process(process.pid) if process.poll() is None else None, self.stop_signals)
            process.wait()

    @abstractmethod
    def responds(self) -> bool:
        """Return whether the server accepts a connection right now."""

    def _spawn(self, command: Sequence[str], die_with: int, env: Mapping[str, str] | None = None) -> None:
        try:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd="/",
                    start_new_session=True,
                    preexec_fn=die_with_parent(die_with),
                )
        except OSError as error:
            raise EmbeddedError(f"Cannot start {self.name}: {sentence(error)} ({command[0]}).") from error
        self._wait_for_response()

    def _wait_for_response(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.responds():
            if not self.is_alive():
                raise EmbeddedError(f"Cannot start {self.name}: {last_complaint(self.log)} (log: {self.log}).")
            if time.monotonic() > deadline:
                self.stop()
                raise EmbeddedError(f"Cannot start {self.name}: no response in {START_SECONDS} s (log: {self.log}).")
            time.sleep(0.02)


def last_complaint(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-50:] if log.exists() else []
    complaints = [line for line in lines if re.search(r"FATAL|PANIC|ERROR|error:|No space left|# ", line)]
    if not (complaints or lines):
        return "it ended without a message"
    return re.sub(r"^.*?(FATAL|PANIC|ERROR|error):\s*", "", (complaints or lines)[-1]).strip().rstrip(".")


def end(process: psutil.Process | None, signals: Sequence[int]) -> None:
    for signum in signals:
        if process is None or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process.send_signal(signum)
            process.wait(STOP_SECONDS)


def leftover(pid_file: Path, needle: str) -> psutil.Process | None:
    """Return the process named in ``pid_file`` if it is the server that an earlier, killed run left behind."""
    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        return process if any(needle in argument for argument in process.cmdline()) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
