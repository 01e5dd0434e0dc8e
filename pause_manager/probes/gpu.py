"""The GPUs, asked of the driver through a process that may be killed. Silence is "unknown" with a reason."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pause_manager.views import GpuView

logger = logging.getLogger("pause_manager.probes.gpu")

SCRIPT = Path(__file__).with_name("gpu_process.py")
FIRST_BACKOFF_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 60.0


@dataclass(frozen=True)
class GpuReading:
    """The GPUs of the machine. ``problem`` says why none of them can be read; ``note`` why there are none."""

    gpus: tuple[GpuView, ...] = ()
    problem: str = ""
    note: str = ""


class GpuProbe:
    """Asks the driver process, and kills it when it has not answered within ``deadline_seconds``.

    It is started again after 2, 4, … 60 seconds; a process that even a kill does not end (it hangs in the kernel) is
    not joined by a second one. A card that was seen and is gone stays listed, with a problem, until this probe ends.
    """

    def __init__(self, deadline_seconds: float = 2.0, *, startup_seconds: float = 10.0) -> None:
        self._deadline = deadline_seconds
        self._startup = startup_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._dying: subprocess.Popen[bytes] | None = None
        self._asked_at: float | None = None
        self._has_answered = False
        self._buffer = b""
        self._failures = 0
        self._next_start = 0.0
        self._known: dict[int, GpuView] = {}
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
        return self._unknown(self._reason)

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
            self._process.stdin.write(b"?\n")
            self._asked_at = time.monotonic()

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
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not readable:
                if time.monotonic() >= limit:
                    self._fail(f"the driver did not answer within {limit - self._asked_at:g} s")
                elif self._has_answered or self._failures == 0:
                    self._reason = self._reason if self._failures else "the driver has not answered yet"
                return
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                self._fail("the driver process ended without an answer")
                return
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        self._asked_at = None
        self._understand(json.loads(line), own_pids)

    def _understand(self, answer: dict[str, Any], own_pids: Collection[int]) -> None:
        if "problem" in answer:
            if answer["is_absent"] and not self._known:
                self._absent(str(answer["problem"]))
            else:
                self._fail(f"the driver says: {answer['problem']}")
            return
        self._has_answered, self._failures = True, 0
        seen = {gpu.index: gpu for gpu in (self._view(entry, own_pids) for entry in answer["gpus"])}
        for index, gpu in self._known.items():
            # The parts of a MIG card come and go; a card does not.
            if index not in seen and gpu.mig_of is None:
                seen[index] = replace(gpu, **_UNREADABLE, problem="it is gone: the driver no longer lists it")
        self._known = dict(sorted(seen.items()))
        self._last = (time.monotonic(), GpuReading(tuple(self._known.values())))

    def _view(self, entry: dict[str, Any], own_pids: Collection[int]) -> GpuView:
        index, problem = int(entry["index"]), str(entry["problem"])
        if "total_mib" not in entry:
            known = self._known.get(index) or GpuView(index=index, total_mib=0, free_mib=None)
            return replace(known, **_UNREADABLE, problem=problem)
        used = {int(pid): mib for pid, mib in entry.pop("processes")}
        own = {pid: mib for pid, mib in used.items() if pid in own_pids}
        entry["own_mib"] = sum(mib or 0 for mib in own.values())
        return GpuView(**entry, processes=len(used), own_processes=len(own))

    def _absent(self, reason: str) -> None:
        """No driver library: a machine without GPUs. It is looked for again now and then."""
        self._kill()
        self._next_start = time.monotonic() + LONGEST_BACKOFF_SECONDS
        self._last = (float("inf"), GpuReading(note=f"no GPUs: {reason}"))

    def _fail(self, reason: str) -> None:
        self._kill()
        wait = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self._failures)
        self._failures += 1
        self._next_start, self._last = time.monotonic() + wait, None
        if reason != self._reason:
            logger.warning("Cannot read the GPUs: %s.", reason)
        self._reason = reason

    def _unknown(self, reason: str) -> GpuReading:
        gpus = tuple(replace(gpu, **_UNREADABLE, problem=reason) for gpu in self._known.values())
        return GpuReading(gpus, problem=reason)

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


_UNREADABLE: dict[str, Any] = {
    "free_mib": None,
    "utilisation": None,
    "temperature_c": None,
    "own_mib": 0,
    "processes": 0,
    "own_processes": 0,
}
