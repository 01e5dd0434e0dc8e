"""Ends what takes longer than it may: the loop is asked; then what it holds is taken from it, and its process killed.

Nothing of the loop has to run for that: what it is at, and since when, stands in its slot. In a pool that is one
process nobody can be killed: what it holds continues elsewhere, and its place is gone until the worker starts again.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pause_manager.database.thread import Job
from pause_manager.probes import processes
from pause_manager.slots import slot_table
from pause_manager.slots.shared_state import SharedState
from pause_manager.slots.slot_table import CurrentWork, SlotNote
from pause_manager.slots.stop_publisher import StopPublisher

logger = logging.getLogger("pause_manager.slots.overruns")

AGAIN_SECONDS = 5.0
"""What could not be taken away, because the database was away, is tried again so often."""


@dataclass(frozen=True)
class Overrun:
    """Work that does not end."""

    noted: SlotNote
    work: CurrentWork
    has_ended: bool
    """Whether that for which it is done has ended; else it takes longer than its limit."""
    is_killed: bool
    """Whether its process will be killed; else it stays, and what it does comes to nothing."""


@dataclass(frozen=True)
class OverrunRules:
    """What the engine says of its loops: code that works for long registers them."""

    take_away: Callable[[Overrun], Callable[[], object] | None]
    """Take from the loop what it holds; what is to be done once it is gone, or ``None`` if it may continue."""
    grace: Callable[[], float]
    """Seconds between being asked and being ended."""
    ended_grace: Callable[[], float]
    """Seconds that work may take for something that has ended."""


_rules: OverrunRules | None = None


def register(rules: OverrunRules) -> None:
    """Have every loop that is at one piece of work for too long treated by ``rules``."""
    global _rules
    _rules = rules


class Overruns:
    """Of the slots of one page. ``hand_in`` has a job done by a thread that may wait for the database."""

    def __init__(self, here: SharedState, hand_in: Callable[[str, Job], None]) -> None:
        self._page = here
        self._hand_in = hand_in
        self._again_at: dict[_Key, float] = {}
        """When each is to be taken away: again, if it has not been meanwhile."""

    def look(self, keeper: StopPublisher) -> None:
        """Ask who is over time, and end who has not heard. From memory; called once a tick."""
        if _rules is None:
            return
        taken: set[tuple[int, int]] = set()
        for noted, stop, seconds in keeper.judged():
            taken.add((noted.number, noted.generation))
            work = slot_table.at_work(self._page, noted.number)
            if work is None:
                continue
            late = work.seconds - work.limit
            has_ended = stop is not None and stop.code == "finished"
            if late > 0:
                slot_table.ask(self._page, noted.number, work)
                self._end(Overrun(noted, work, False, _is_of_pool(noted.owner)), grace=_rules.grace())
            elif has_ended and min(seconds, work.seconds) > _rules.ended_grace():
                self._end(Overrun(noted, work, True, _is_of_pool(noted.owner)), grace=0.0)
        for key in list(self._again_at):
            if key[:2] not in taken:
                del self._again_at[key]

    def _end(self, overrun: Overrun, *, grace: float) -> None:
        now = time.monotonic()
        if now >= self._again_at.setdefault(_key(overrun), now + grace):
            self._again_at[_key(overrun)] = now + AGAIN_SECONDS
            self._hand_in(f"overrun in slot {overrun.noted.number}", partial(self._take_away, overrun))

    def _take_away(self, overrun: Overrun) -> None:
        assert _rules is not None
        if not self._is_still(overrun):
            return
        go_on = _rules.take_away(overrun)
        self._again_at[_key(overrun)] = float("inf")
        if go_on is None:
            return
        # What it holds is another's by now. If it has ended meanwhile, its process may be at something else.
        if overrun.is_killed and self._is_still(overrun):
            _kill(overrun.noted.owner)
        go_on()

    def _is_still(self, overrun: Overrun) -> bool:
        number = overrun.noted.number
        now = slot_table.at_work(self._page, number)
        is_same = slot_table.edition(self._page, number)[0] == overrun.noted.generation
        return is_same and now is not None and now.begun == overrun.work.begun


_Key = tuple[int, int, float, bool]


def _key(overrun: Overrun) -> _Key:
    return overrun.noted.number, overrun.noted.generation, overrun.work.begun, overrun.has_ended


def _is_of_pool(owner: str) -> bool:
    """Whether ``owner`` is a process of our pool, which another takes the place of."""
    return processes.is_here(owner) and processes.pid_of(owner) != str(os.getpid())


def _kill(owner: str) -> None:
    if processes.is_dead(owner):
        return
    pid = int(processes.pid_of(owner))
    logger.warning("Process %d is killed: it does not end what it is at.", pid)
    os.kill(pid, signal.SIGKILL)
