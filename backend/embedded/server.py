"""A server process of ours: started, watched and stopped."""

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
    """A ``preexec_fn`` that has Linux send ``signum`` to the child when its parent is gone, however it went."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        pr_set_pdeathsig = 1
        libc.prctl(pr_set_pdeathsig, signum, 0, 0, 0)

    return ask_kernel


@dataclass
class Server(ABC):
    """One server process: started, watched and stopped. Subclasses say how."""

    layout: Layout
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    name: ClassVar[str] = "server"
    stop_signals: ClassVar[Sequence[int]] = (signal.SIGTERM, signal.SIGKILL)

    @property
    def log(self) -> Path:
        return self.layout.log_dir / f"{self.name.lower()}.log"

    def is_alive(self) -> bool:
        """Whether the process that :meth:`start` started is still there."""
        return self.process is not None and self.process.poll() is None

    @abstractmethod
    def start(self) -> None:
        """Start and return when it answers, or raise :class:`EmbeddedError`."""

    def stop(self) -> None:
        """Stop cleanly, by force when that takes too long. Harmless when not running."""
        process, self.process = self.process, None
        if process is not None:
            end(psutil.Process(process.pid) if process.poll() is None else None, self.stop_signals)
            process.wait()

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server accepts a connection right now."""

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
        self._wait_for_answer()

    def _wait_for_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if not self.is_alive():
                raise EmbeddedError(f"Cannot start {self.name}: {last_complaint(self.log)} (log: {self.log}).")
            if time.monotonic() > deadline:
                self.stop()
                raise EmbeddedError(f"Cannot start {self.name}: no answer in {START_SECONDS} s (log: {self.log}).")
            time.sleep(0.02)


def last_complaint(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-50:] if log.exists() else []
    complaints = [line for line in lines if re.search(r"FATAL|PANIC|ERROR|error:|No space left|# ", line)]
    if not (complaints or lines):
        return "it ended without a word"
    return re.sub(r"^.*?(FATAL|PANIC|ERROR|error):\s*", "", (complaints or lines)[-1]).strip().rstrip(".")


def end(process: psutil.Process | None, signals: Sequence[int]) -> None:
    for signum in signals:
        if process is None or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process.send_signal(signum)
            process.wait(STOP_SECONDS)


def leftover(pid_file: Path, needle: str) -> psutil.Process | None:
    """The process that ``pid_file`` names, if it is the server that a killed earlier run left behind."""
    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        return process if any(needle in argument for argument in process.cmdline()) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
