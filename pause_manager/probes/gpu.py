"""The GPUs, asked of the driver through a process that may be killed. Silence is "unknown" with a reason."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pause_manager.probes.cards import Cards
from pause_manager.views import GpuView

logger = logging.getLogger("pause_manager.probes.gpu")

SCRIPT = Path(__file__).with_name("gpu_process.py")
FIRST_BACKOFF_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 60.0
AMD = "0x1002"
"""The vendor, as the kernel tells it of a PCI device."""


@dataclass(frozen=True)
class GpuReading:
    """The GPUs of the machine. ``problem`` says why none of them can be read; ``note`` why there are none."""

    gpus: tuple[GpuView, ...] = ()
    problem: str = ""
    note: str = ""


class GpuProbe:
    """Asks the driver process, and kills it when it has not answered within ``deadline_seconds``.

    It is started again after 2, 4, … 60 seconds; a process that even a kill does not end (it hangs in the kernel) is
    not joined by a second one. A card that the driver's library does not survive is left alone for a minute, and the
    others are asked at once by another process. Which card is which is told by ``Cards``.
    """

    def __init__(self, deadline_seconds: float = 2.0, *, startup_seconds: float = 10.0, root: Path = Path("/")) -> None:
        self._deadline = deadline_seconds
        self._startup = startup_seconds
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._dying: subprocess.Popen[bytes] | None = None
        self._asked_at: float | None = None
        self._asking: int | None = None
        self._alone: dict[int, float] = {}
        """Cards that are left alone, by index, each with when it is tried again."""
        self._has_answered = False
        self._buffer = b""
        self._failures = 0
        self._next_start = 0.0
        self._cards = Cards(root)
        self._last: tuple[float, GpuReading] | None = None
        self._reason = "the driver was not asked yet"

    def read(self, own_pids: Collection[int], *, wait_seconds: float = 0.25) -> GpuReading:
        """The GPUs now, or as they were within the deadline; waits ``wait_seconds`` for an answer and no longer."""
        try:
            self._ask()
            self._take_answer(own_pids, wait_seconds)
        except OSError as error:
            self._fail(f"the driver process ended ({error.strerror or error})")
        if self._last is not None and time.monotonic() - self._last[0] <= self._deadline:
            return self._last[1]
        return GpuReading(self._cards.unknown(self._reason), problem=self._reason)

    def close(self) -> None:
        """End the driver process."""
        self._kill()

    @property
    def pid(self) -> int | None:
        """The driver process, if one is up."""
        return self._process.pid if self._process is not None else None

    def _ask(self) -> None:
        if self._process is None:
            if time.monotonic() < self._next_start or not self._is_rid_of_the_last():
                return
            self._start()
        if self._asked_at is None and self._process is not None and self._process.stdin is not None:
            now = time.monotonic()
            alone = sorted(index for index, until in self._alone.items() if now < until)
            self._process.stdin.write(json.dumps(alone).encode() + b"\n")
            self._asked_at, self._asking = now, None

    def _start(self) -> None:
        self._buffer, self._has_answered = b"", False
        self._process = subprocess.Popen(
            # -P: what lies beside the script must not stand in for modules of the same name.
            [sys.executable, "-P", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )

    def _take_answer(self, own_pids: Collection[int], wait_seconds: float) -> None:
        if self._process is None or self._asked_at is None or self._process.stdout is None:
            return
        limit = self._asked_at + (self._deadline if self._has_answered else max(self._deadline, self._startup))
        until = min(limit, time.monotonic() + wait_seconds)
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                answer = json.loads(line)
                if "asking" not in answer:
                    self._asked_at = None
                    self._understand(answer, own_pids)
                    return
                self._asking = answer["asking"]
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not readable:
                if time.monotonic() >= limit:
                    self._fail(f"the driver did not answer within {limit - self._asked_at:g} s")
                elif not self._failures:
                    self._reason = "the driver has not answered yet"
                return
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                self._end()
                return
            self._buffer += chunk

    def _end(self) -> None:
        """The process has ended without an answer: by a card that it was asking, or as a whole."""
        process, asking = self._process, self._asking
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        ended_by = process.poll() if process is not None else None
        self._kill()
        if asking is None or ended_by in (-signal.SIGKILL, -signal.SIGTERM):
            self._fail("the driver process ended without an answer")
            return
        if asking not in self._alone:
            logger.warning("The driver's library does not survive GPU %d being asked. It is left alone.", asking)
        self._alone[asking] = time.monotonic() + LONGEST_BACKOFF_SECONDS
        self._next_start = 0.0  # the others are asked at once; until they answer the last answer stands

    def _understand(self, answer: dict[str, Any], own_pids: Collection[int]) -> None:
        if "problem" in answer:
            if answer["is_absent"] and self._cards.is_empty:
                self._absent(str(answer["problem"]))
            else:
                self._fail(f"the driver says: {answer['problem']}")
            return
        self._has_answered, self._failures = True, 0
        entries: list[dict[str, Any]] = answer["gpus"]
        if self._cards.have_moved(entries):
            self._alone.clear()  # they were named by their index
        answered = {entry["index"] for entry in entries if "is_left_alone" not in entry}
        self._alone = {index: until for index, until in self._alone.items() if index not in answered}
        self._last = (time.monotonic(), GpuReading(self._cards.seen(entries, own_pids)))

    def _absent(self, reason: str) -> None:
        """No driver library: a machine without GPUs. It is looked for again now and then."""
        self._kill()
        self._next_start = time.monotonic() + LONGEST_BACKOFF_SECONDS
        if self._has_amd_card():
            reason = f"there is an AMD card, and only NVIDIA's can be read ({reason})"
        self._last = (float("inf"), GpuReading(note=f"no GPUs: {reason}"))

    def _has_amd_card(self) -> bool:
        found = (self._root / "sys/class/drm").glob("card*/device/vendor")
        with contextlib.suppress(OSError):
            return any(vendor.read_text().strip() == AMD for vendor in found)
        return False

    def _fail(self, reason: str) -> None:
        self._kill()
        wait = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self._failures)
        self._failures += 1
        self._next_start, self._last = time.monotonic() + wait, None
        if reason != self._reason:
            logger.warning("Cannot read the GPUs: %s.", reason)
        self._reason = reason

    def _kill(self) -> None:
        process, self._process, self._asked_at = self._process, None, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._dying = process
        self._is_rid_of_the_last()

    def _is_rid_of_the_last(self) -> bool:
        if self._dying is not None:
            try:
                self._dying.wait(0.05)
            except subprocess.TimeoutExpired:
                return False
            self._dying = None
        return True
