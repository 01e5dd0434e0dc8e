"""The process that asks the driver, seen from outside: it is asked, answers in its time, and may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("gpu_process.py")


class Silent(Exception):
    """It has not answered within ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Ended(Exception):
    """It has ended without an answer; ``is_killed``: by a signal of somebody else's, not by the library."""

    def __init__(self, is_killed: bool) -> None:
        super().__init__(is_killed)
        self.is_killed = is_killed


class DriverProcess:
    """One process of ``gpu_process.py``. Each card has ``deadline`` seconds; the first answer ``startup`` beside."""

    def __init__(self, deadline: float, startup: float) -> None:
        self._deadline = deadline
        self._startup = startup
        self._buffer = b""
        self._since = 0.0
        self._allowed = startup
        self.is_asked = False
        self.asking: int | None = None
        """The card that it is asking the driver for."""
        self.count = 0
        """How many cards the driver lists, as far as it has told."""
        self._process = subprocess.Popen(
            # -P: what lies beside the script must not stand in for modules of the same name.
            [sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, alone: Collection[int], *, only: int | None = None) -> None:
        """Ask for all cards but those to leave ``alone``, or for ``only`` one. Raises ``OSError`` if it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"alone": list(alone), "only": only}).encode() + b"\n")
        self.is_asked, self.asking, self._since = True, None, time.monotonic()

    def answer(self, wait_seconds: float) -> dict[str, Any] | None:
        """The answer if it comes within ``wait_seconds``, else ``None``. Raises :class:`Silent`, :class:`Ended`."""
        assert self._process.stdout is not None
        until = time.monotonic() + wait_seconds
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                answer: dict[str, Any] = json.loads(line)
                if "asking" not in answer:
                    self.is_asked, self._allowed = False, self._deadline
                    return answer
                self.asking, self.count = answer["asking"], answer["of"]
                self._since, self._allowed = time.monotonic(), self._deadline
            left = min(until, self._since + self._allowed) - time.monotonic()
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, left))
            if not readable:
                if time.monotonic() >= self._since + self._allowed:
                    raise Silent(self._allowed)
                return None
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.2)
                raise Ended(self._process.poll() in (-signal.SIGKILL, -signal.SIGTERM))
            self._buffer += chunk

    def kill(self) -> bool:
        """End it, if it can be ended; whether it has."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return self.has_ended()

    def has_ended(self) -> bool:
        """Return whether it has ended; waits a moment for it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.05)
        return self._process.returncode is not None
