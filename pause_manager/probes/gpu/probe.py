"""The GPUs, asked of the driver through a process that may be killed. Silence is "unknown" with a reason."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pause_manager.capacity.snapshot import GpuView
from pause_manager.probes.gpu.cards import Cards
from pause_manager.probes.gpu.driver_process import DriverProcess, Ended, Silent

logger = logging.getLogger("pause_manager.probes.gpu.probe")

CRASHES = "the driver's library crashes when it is asked"
HANGS = "the driver's library hangs when it is asked"
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
    """Asks the driver process, and kills it when it has not answered within ``deadline_seconds``, a deadline per card.

    It is started again after 2, 4, … 60 seconds. A card that the driver's library does not survive, or does not return
    from, is left alone, and the others are asked at once by another process; it is tried again after 2, 4, … 60 seconds
    and then each minute, in a process of its own. A process that even a kill does not end (it hangs in the kernel) is
    joined by one that leaves its card alone, and by no further trial. Which card is which is told by ``Cards``.
    """

    def __init__(self, deadline_seconds: float = 2.0, *, startup_seconds: float = 10.0, root: Path = Path("/")) -> None:
        self._deadline = deadline_seconds
        self._startup = max(deadline_seconds, startup_seconds)
        self._root = root
        self._process: DriverProcess | None = None
        self._trial: tuple[int, DriverProcess] | None = None
        """The card that is tried again, and the process that asks it."""
        self._dying: list[DriverProcess] = []
        self._alone: dict[int, _Alone] = {}
        """Cards that are left alone, by index."""
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
        self._try_again()
        if self._last is not None and time.monotonic() - self._last[0] <= self._deadline:
            return self._last[1]
        return GpuReading(self._cards.unknown(self._reason), problem=self._reason)

    def close(self) -> None:
        """End the driver process."""
        self._kill()
        self._end_trial()

    @property
    def pid(self) -> int | None:
        """The driver process, if one is up."""
        return self._process.pid if self._process is not None else None

    @property
    def pid_of_trial(self) -> int | None:
        """The process that tries a card again, if one is up."""
        return self._trial[1].pid if self._trial is not None else None

    def _ask(self) -> None:
        if self._process is None:
            # One may hang for good: in a card that is left alone. What else hangs would catch the next one, too.
            allowed = 1 if self._alone else 0
            if time.monotonic() < self._next_start or self._still_dying() > allowed:
                return
            self._process = DriverProcess(self._deadline, self._startup)
        if not self._process.is_asked:
            self._process.ask(sorted(self._alone))

    def _take_answer(self, own_pids: Collection[int], wait_seconds: float) -> None:
        process = self._process
        if process is None:
            return
        try:
            answer = process.answer(wait_seconds)
        except Silent as silent:
            self._silent(process, f"the driver did not answer within {silent.seconds:g} s")
            return
        except Ended as ended:
            self._ended(process, ended)
            return
        if answer is not None:
            self._understand(answer, own_pids)
        elif not self._failures and not self._alone:
            self._reason = "the driver has not answered yet"

    def _silent(self, process: DriverProcess, reason: str) -> None:
        """It hangs: in one card, or, if there is no other, as a whole."""
        hung = process.asking
        if hung is None or {*self._alone, hung} >= set(range(process.count)):
            self._alone.clear()
            self._fail(reason)
            return
        self._reason = reason
        self._leave_alone(hung, HANGS)

    def _ended(self, process: DriverProcess, ended: Ended) -> None:
        """It has ended without an answer: by a card that it was asking, or as a whole."""
        if process.asking is None or ended.is_killed:
            self._fail("the driver process ended without an answer")
        else:
            self._leave_alone(process.asking, CRASHES)

    def _leave_alone(self, index: int, why: str) -> None:
        """The others are asked at once by another process; until it answers the last answer stands."""
        self._note_alone(index, why)
        self._kill()
        self._next_start = 0.0
        self._ask()

    def _note_alone(self, index: int, why: str) -> None:
        times = self._alone[index].times + 1 if index in self._alone else 1
        if times == 1:
            logger.warning("GPU %d is left alone: %s.", index, why)
        self._alone[index] = _Alone(why, times, time.monotonic() + _backoff(times - 1))

    def _try_again(self) -> None:
        """Try one of the cards that are left alone and whose time it is, in a process of its own; never waits."""
        if self._trial is None:
            due = [index for index, alone in self._alone.items() if alone.until <= time.monotonic()]
            if not due or self._process is None or self._still_dying():
                return
            self._trial = (min(due), DriverProcess(self._deadline, self._startup))
        index, process = self._trial
        try:
            if not process.is_asked:
                process.ask([], only=index)
            answer = process.answer(0)
            if answer is None:
                return
            if "gpus" in answer:
                logger.info("GPU %d answers again.", index)
                self._alone.pop(index, None)
            else:
                self._note_alone(index, self._alone[index].why)
        except Silent:
            self._note_alone(index, HANGS)
        except (Ended, OSError):
            self._note_alone(index, CRASHES)
        self._end_trial()

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._put_away(self._trial[1])
            self._trial = None

    def _understand(self, answer: dict[str, Any], own_pids: Collection[int]) -> None:
        if "problem" in answer:
            if answer["is_absent"] and self._cards.is_empty:
                self._absent(str(answer["problem"]))
            else:
                self._fail(f"the driver says: {answer['problem']}")
            return
        self._failures = 0
        entries: list[dict[str, Any]] = answer["gpus"]
        for entry in entries:
            if entry.get("is_left_alone") and (alone := self._alone.get(entry["index"])):
                entry["problem"] = alone.why
        if self._cards.have_moved(entries):
            self._alone.clear()  # they were named by their index
            self._end_trial()
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
        self._next_start, self._last = time.monotonic() + _backoff(self._failures), None
        self._failures += 1
        if reason != self._reason:
            logger.warning("Cannot read the GPUs: %s.", reason)
        self._reason = reason

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._put_away(process)

    def _put_away(self, process: DriverProcess) -> None:
        if not process.kill():
            self._dying.append(process)

    def _still_dying(self) -> int:
        """Return how many processes do not end though they were killed."""
        self._dying = [process for process in self._dying if not process.has_ended()]
        return len(self._dying)


@dataclass(frozen=True)
class _Alone:
    """A card that nobody asks but a trial: why, how often that was found, and when it is tried again."""

    why: str
    times: int
    until: float


def _backoff(times: int) -> float:
    return min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(times, 16))
