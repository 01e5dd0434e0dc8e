"""Keeps the stops in a page's slots true: of holds as they are read or heard of, and what the engine says of its loops.

Used by one thread: the supervisor's in a worker, the one of ``standalone`` outside.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pause_manager import database
from pause_manager.database.watchdog import watchdog
from pause_manager.holds.stops import Stop, told_of_hold
from pause_manager.messaging.pg_notifications import Notification
from pause_manager.probes import processes
from pause_manager.slots import slot_table
from pause_manager.slots.shared_state import SharedState
from pause_manager.slots.slot_table import SlotNote

logger = logging.getLogger("pause_manager.slots.stop_publisher")

BACKGROUND_WAIT = 0.0005
"""Seconds a busy thread may keep the interpreter from who keeps the slots; the default of 5 ms adds 10 ms (p99)."""
HUNG_SECONDS = 10.0
SOON = 0.25
TELL_SECONDS = 60.0
"""A judge that fails again and again is told of once in so long."""


@dataclass(frozen=True)
class LoopStops:
    """Of the loops that were asked about."""

    stops: Mapping[int, Stop]
    """By number of the slot; who is not in it continues. Of who has changed its note meanwhile no stop is believed."""
    is_whole: bool = True
    """Whether all that the loops hold was kept alive; if not, it is asked again soon."""


@dataclass(frozen=True)
class StopSource:
    """What the engine says of its loops: code that works for long registers one."""

    judge: Callable[[Sequence[SlotNote]], LoopStops]
    """Keeps alive what the loops hold, in one statement that waits for no lock."""
    seconds: Callable[[], float]
    """How often it wants to be asked."""


_judge: StopSource | None = None


def register(judge: StopSource) -> None:
    """Have ``judge`` asked about every slot that is taken."""
    global _judge
    _judge = judge


_NOTHING = Stop("", "")
"""Written by nobody; what is in a slot that was taken again may be of the loop before."""


class _Seat:
    """What is known of a slot that is taken."""

    __slots__ = ("edition", "held", "judged", "judged_at", "noted", "written")

    def __init__(self) -> None:
        self.edition = (0, 0)
        self.noted: SlotNote | None = None
        self.held: Stop | None = None
        self.judged: Stop | None = None
        self.judged_at = 0.0
        """Since when, by ``time.monotonic()``, the judge says that it must stop, and for this reason."""
        self.written: Stop | None = _NOTHING


class StopPublisher:
    """Of the slots of one page."""

    def __init__(self, here: SharedState, node: Callable[[], str]) -> None:
        self._page = here
        self._node = node
        """What this machine is called by now, whatever it was when a loop began; empty if nobody knows."""
        self._seats: dict[int, _Seat] = {}
        self._told_at = float("-inf")
        self._asked_at = float("-inf")
        self._asks_again = False
        self._has_told_end = False
        """Whether the judge knows that the worker shuts down: it is asked at once, not at its next turn."""

    @property
    def due(self) -> float:
        """When (``time.monotonic()``) the judge is to be asked."""
        if self._asks_again or (self._page.is_shutting_down and not self._has_told_end):
            return 0.0
        return float("inf") if _judge is None or not self._seats else self._asked_at + _judge.seconds()

    def judged(self) -> Iterator[tuple[SlotNote, Stop | None, float]]:
        """What each loop has noted, why the judge says that it must stop, and for how many seconds already."""
        now = time.monotonic()
        for seat in self._seats.values():
            if seat.noted is not None:
                yield seat.noted, seat.judged, now - seat.judged_at

    def scopes(self) -> set[str]:
        """Every scope whose holds reach a loop, as is noted now."""
        self.look()
        return {scope for seat in self._seats.values() for scope in self._scopes_of(seat)}

    def _scopes_of(self, seat: _Seat) -> frozenset[str]:
        if seat.noted is None:
            return frozenset()
        return seat.noted.scopes | {f"node:{node}" for node in [self._node()] if node}

    def look(self) -> None:
        """Learn which slots are taken and what is noted in them."""
        taken = set(slot_table.taken(self._page))
        for number in self._seats.keys() - taken:
            del self._seats[number]
        for number in taken:
            found = slot_table.edition(self._page, number)
            seat = self._seats.get(number)
            if seat is None or seat.edition[0] != found[0]:
                seat = self._seats[number] = _Seat()
            if seat.edition != found and (noted := slot_table.noted(self._page, number)) is not None:
                seat.edition, seat.noted = (noted.generation, noted.edition), noted

    def bury(self) -> None:
        """Free the slots of processes that have ended."""
        for number in slot_table.taken(self._page):
            if processes.is_dead(slot_table.owner_of(self._page, number)):
                slot_table.free(self._page, number)

    def foresee(self, rings: Iterable[Notification]) -> None:
        """Obey holds as soon as they are heard of: reading them takes a moment more."""
        for ring in rings:
            if ring.change not in ("placed", "altered") or ring.mode != "quiesce":
                continue
            for number, seat in self._seats.items():
                scope = next((one for one in ring.scopes if one in self._scopes_of(seat)), None)
                if scope is not None and seat.held is None:
                    seat.held = Stop("held", told_of_hold(scope, ring.kind, ring.reason))
                    self._tell(number, seat)

    def obey(self, quiesced: Mapping[str, Stop], *, read: Collection[str]) -> None:
        """The holds on the scopes ``read`` were read, and those that are not in ``quiesced`` stop nothing."""
        for number, seat in self._seats.items():
            scopes = self._scopes_of(seat)
            if not scopes or not scopes.issubset(read):
                continue  # It came after the question, and its first claim asks the gate.
            seat.held = next((quiesced[scope] for scope in scopes if scope in quiesced), None)
            self._tell(number, seat)

    def judge(self, rings: Sequence[Notification] | None = None) -> None:
        """Ask the judge about the loops that ``rings`` say something else than a hold has changed for; without: all.

        Raises ``DatabaseError`` if the database is away: what was said last stays.
        """
        if _judge is None:
            return
        if rings is None:
            self._has_told_end = self._page.is_shutting_down
        asked = self._asked(rings)
        if not asked:
            return
        if rings is None:
            self._asked_at, self._asks_again = time.monotonic(), False
        try:
            with watchdog.limit("the loops", HUNG_SECONDS):
                verdict = _judge.judge(asked)
        except Exception as error:
            if database.is_away(error):
                self._asked_at, self._has_told_end = float("-inf"), False
                raise
            self._complain()
            return
        if not verdict.is_whole:
            self._asked_at = min(self._asked_at, time.monotonic() + SOON - _judge.seconds())
        for one in asked:
            seat = self._seats.get(one.number)
            if seat is None or slot_table.edition(self._page, one.number)[0] != one.generation:
                continue
            stop = verdict.stops.get(one.number)
            if stop is not None and slot_table.edition(self._page, one.number) != (one.generation, one.edition):
                # It continued, or gave back what it had, while we asked: that may be no reason any more.
                self._asks_again = True
                continue
            if stop is None or seat.judged is None or stop.code != seat.judged.code:
                seat.judged_at = time.monotonic()
            seat.judged = stop
            self._tell(one.number, seat)

    def _asked(self, rings: Sequence[Notification] | None) -> list[SlotNote]:
        self.look()
        seats = list(self._seats.values())
        if rings is not None:
            changed = [ring.scopes for ring in rings if ring.change == "changed" or not ring.scopes]
            seats = [seat for seat in seats if any(not some or self._scopes_of(seat) & set(some) for some in changed)]
        noted = [seat.noted for seat in seats if seat.noted is not None]
        # A process that is stopped does nothing: who waits for what it holds need not wait for it to wake up.
        going = [one for one in noted if not processes.is_stopped(one.owner)]
        return [
            replace(
                one,
                is_told_to_end=slot_table.is_told_to_end(self._page, one.number),
                work=slot_table.at_work(self._page, one.number),
            )
            for one in going
        ]

    def _tell(self, number: int, seat: _Seat) -> None:
        stop = seat.judged or seat.held
        if stop != seat.written:
            slot_table.tell(self._page, number, seat.edition[0], stop)
            seat.written = stop

    def _complain(self) -> None:
        if time.monotonic() > self._told_at + TELL_SECONDS:
            self._told_at = time.monotonic()
            logger.exception("The loops cannot be judged: what was said last of them stays.")
        database.close()
