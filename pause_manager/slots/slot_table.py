"""Slots: a loop that works for long notes in the worker's page what it is on, and finds there whether it must stop.

The supervisor in the worker's main process reads what was noted and writes the stops. A loop that looks reads one word
of memory; it needs no thread, no statement, and no turn of the interpreter to stay alive. Each slot has a generation,
so that what was meant for one loop never stops the next. Outside a worker the page is the process's (``standalone``).
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pause_manager.holds.stops import SHUTDOWN, Stop
from pause_manager.probes import processes
from pause_manager.slots.shared_state import MOST_SLOTS, SLOT_SIZE, SLOTS, SharedState

_STATES = SLOTS
"""A byte a slot: whether it is taken."""
_FLAGS = _STATES + MOST_SLOTS
"""Four bytes a slot, one for each who may stop it; any that is not 0 does."""
_BODIES = _FLAGS + 4 * MOST_SLOTS
_SUPERVISOR, _OWN, _SHUTDOWN = range(3)

_NUMBER = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
_OWNER, _NOTE, _STOP, _WORK = 16, 512, 3 * 1024, SLOT_SIZE - 64
"""Where in a body they begin; before them its generation."""
BEGUN, LIMIT, NUMBER, ATTEMPT, _OVERDUE = range(5)
"""What a loop writes, in its :attr:`Slot.work`, of the piece of work that it is at."""
_AT_WORK = struct.Struct("<4d")
_SECONDS = struct.Struct("<d")
_LOOKS = 20

ORPHANED = Stop("shutdown", "The worker's main process has ended.")


@dataclass(frozen=True)
class CurrentWork:
    """The piece of work that a loop is at."""

    begun: float
    """By ``time.monotonic()``, which all processes of a machine share."""
    limit: float
    """Seconds that it may take."""
    number: int
    attempt: int

    @property
    def seconds(self) -> float:
        """For how long it has been at it."""
        return time.monotonic() - self.begun


@dataclass(frozen=True)
class SlotNote:
    """What a loop has noted. ``about`` is whatever the engine that it belongs to needs to judge it."""

    number: int
    generation: int
    edition: int
    """Changes with each note."""
    owner: str
    """Its process, see ``processes.identity``."""
    scopes: frozenset[str]
    about: Any
    is_told_to_end: bool = False
    """Whether its process has been told to end."""
    work: CurrentWork | None = None
    """What it is at, as of when the judge was asked."""


class Slot:
    """Of one loop, in its own process and thread."""

    def __init__(self, here: SharedState, number: int, generation: int, scopes: Collection[str]) -> None:
        self._page = here
        self._number = number
        self._generation = generation
        self._scopes = sorted(scopes)
        start = _FLAGS + 4 * number
        self._bytes = memoryview(here.memory)[start : start + 4]
        self.flags = self._bytes.cast("I")
        """``flags[0]`` is not 0 if there may be a :attr:`stop`: for who has no time."""
        start = _body(number) + _WORK
        self.work = memoryview(here.memory)[start : start + 40].cast("d")
        """What it is at: ``LIMIT``, ``NUMBER``, ``ATTEMPT``, and last ``BEGUN``, which is 0 while it is at nothing."""
        self._is_child = here.writer == os.getppid()
        self.check = _check(self)
        """(whether to stop before the next item, why), from memory."""

    @property
    def stop(self) -> Stop | None:
        """Why the loop must stop, if it must."""
        if not self.flags[0]:
            return None
        if self._bytes[_OWN] or self._bytes[_SHUTDOWN]:
            return SHUTDOWN
        found = _read(self._page, _body(self._number) + _STOP)
        if found is None or found[1] is None:
            return None
        generation, code, sentence = found[1]
        return Stop(code, sentence) if generation == self._generation else None

    @property
    def is_overdue(self) -> bool:
        """Whether what it is at takes longer than it may: it ends now by itself, or is ended."""
        return self.work[_OVERDUE] == self.work[BEGUN] != 0.0

    @property
    def is_orphaned(self) -> bool:
        """Whether nobody tells it of stops any more, because the worker's main process has ended."""
        return self._is_child and os.getppid() != self._page.writer

    def note(self, about: Any) -> None:
        """Tell the supervisor what the loop is on; ``about`` as JSON."""
        text = _encoded([self._scopes, about])
        if len(text) > _STOP - _NOTE - 12:
            raise ValueError(f"Cannot note {text[:200]!r}…: its {len(text):,} bytes do not fit into a slot.")
        _write(self._page, _body(self._number) + _NOTE, text)

    def free(self) -> None:
        """Nothing runs in it any more."""
        with _taking:
            _mine.discard((self._page, self._number))
            free(self._page, self._number)


def _check(slot: Slot) -> Callable[[], tuple[bool, Stop | None]]:
    # Asked between any two items: a closure is a fifth faster than a method.
    flags, go_on = slot.flags, (False, None)

    def check() -> tuple[bool, Stop | None]:
        if flags[0]:
            stop = slot.stop
            return (stop is not None, stop)
        return go_on

    return check


_taking = threading.Lock()
_mine: set[tuple[SharedState, int]] = set()
_is_ending = False
"""Whether this process stops all of its loops."""


def take(here: SharedState, scopes: Collection[str], about: Any) -> Slot:
    """A free slot of ``here`` for a loop under ``scopes``. Raises ``RuntimeError`` if all are taken."""
    owner = processes.identity().encode()
    with _taking:
        number = -1
        while (number := here.memory.find(b"\0", _STATES + number + 1, _STATES + MOST_SLOTS) - _STATES) >= 0:
            # A lock for the moment of the taking: the kernel lets go of it, should we be killed in it.
            try:
                fcntl.lockf(here.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except OSError:
                continue
            try:
                if here.memory[_STATES + number] == 0:
                    return _taken(here, number, owner, scopes, about)
            finally:
                fcntl.lockf(here.descriptor, fcntl.LOCK_UN, 1, number)
    raise RuntimeError(f"Cannot take a slot in the worker's page: all {MOST_SLOTS:,} are taken.")


def _taken(here: SharedState, number: int, owner: bytes, scopes: Collection[str], about: Any) -> Slot:
    body = _body(number)
    generation = _NUMBER.unpack_from(here.memory, body)[0] + 1
    _NUMBER.pack_into(here.memory, body, generation)
    _LENGTH.pack_into(here.memory, body + _OWNER, len(owner))
    here.memory[body + _OWNER + 4 : body + _OWNER + 4 + len(owner)] = owner
    here.memory[_FLAGS + 4 * number : _FLAGS + 4 * number + 4] = bytes(4)
    here.memory[body + _WORK : body + SLOT_SIZE] = bytes(SLOT_SIZE - _WORK)
    slot = Slot(here, number, generation, scopes)
    # A loop that was killed while it noted something has left the edition odd.
    _NUMBER.pack_into(here.memory, body + _NOTE, _NUMBER.unpack_from(here.memory, body + _NOTE)[0] & ~1)
    slot.note(about)
    _mine.add((here, number))
    here.memory[_STATES + number] = 1
    # After that: who shuts down says so first, and tells those who are there then.
    if here.is_shutting_down:
        here.memory[_FLAGS + 4 * number + _SHUTDOWN] = 1
    if _is_ending:
        here.memory[_FLAGS + 4 * number + _OWN] = 1
    return slot


def stop_mine() -> None:
    """Stop every loop of this process, now and later: it is about to end. Safe in a signal handler."""
    global _is_ending
    _is_ending = True
    for here, number in tuple(_mine):
        here.memory[_FLAGS + 4 * number + _OWN] = 1


def shut_down(here: SharedState) -> None:
    """Stop every loop of the worker of ``here``, now and later. Safe in a signal handler."""
    here.is_shutting_down = True
    for number in taken(here):
        here.memory[_FLAGS + 4 * number + _SHUTDOWN] = 1


# -- for the supervisor -----------------------------------------------------------------------------------------------


def taken(here: SharedState) -> Iterator[int]:
    """The numbers of the slots that are taken."""
    number = _STATES - 1
    while (number := here.memory.find(b"\1", number + 1, _STATES + MOST_SLOTS)) >= 0:
        yield number - _STATES


def edition(here: SharedState, number: int) -> tuple[int, int]:
    """Generation of slot ``number`` and edition of its note: as long as both are the same, so is the note."""
    body = _body(number)
    return _NUMBER.unpack_from(here.memory, body)[0], _NUMBER.unpack_from(here.memory, body + _NOTE)[0]


def noted(here: SharedState, number: int) -> SlotNote | None:
    """What is noted in slot ``number``; ``None`` if it is being written for longer than a moment."""
    body = _body(number)
    generation = _NUMBER.unpack_from(here.memory, body)[0]
    found = _read(here, body + _NOTE)
    if found is None or found[1] is None or _NUMBER.unpack_from(here.memory, body)[0] != generation:
        return None
    scopes, about = found[1]
    return SlotNote(number, generation, found[0], owner_of(here, number), frozenset(scopes), about)


def owner_of(here: SharedState, number: int) -> str:
    """The process that took slot ``number`` last, see ``processes.identity``."""
    at = _body(number) + _OWNER
    (length,) = _LENGTH.unpack_from(here.memory, at)
    return bytes(here.memory[at + 4 : at + 4 + min(length, _NOTE - _OWNER - 4)]).decode(errors="replace")


def is_told_to_end(here: SharedState, number: int) -> bool:
    """Whether the process of slot ``number`` has been told to end: if it dies now, what it is on is not to blame."""
    at = _FLAGS + 4 * number
    return bool(here.memory[at + _OWN] or here.memory[at + _SHUTDOWN])


def at_work(here: SharedState, number: int) -> CurrentWork | None:
    """What the loop in slot ``number`` is at; ``None`` for nothing, or if it is at something else this moment."""
    at = _body(number) + _WORK
    begun, limit, ordinal, attempt = _AT_WORK.unpack_from(here.memory, at)
    if not begun or _AT_WORK.unpack_from(here.memory, at)[0] != begun:
        return None
    return CurrentWork(begun, limit, int(ordinal), int(attempt))


def ask(here: SharedState, number: int, work: CurrentWork) -> None:
    """Ask the loop in slot ``number`` to end what it is at, which must still be ``work``: it takes too long."""
    _SECONDS.pack_into(here.memory, _body(number) + _WORK + 8 * _OVERDUE, work.begun)


def tell(here: SharedState, number: int, generation: int, stop: Stop | None) -> None:
    """Stop the loop that has ``generation`` of slot ``number``, or let it continue."""
    if stop is not None:
        # Cut by characters, which may take six bytes each.
        texts = (_encoded([generation, stop.code, stop.sentence[:longest]]) for longest in (1_500, 600))
        _write(here, _body(number) + _STOP, next(text for text in texts if len(text) <= _WORK - _STOP - 12))
    here.memory[_FLAGS + 4 * number + _SUPERVISOR] = stop is not None


def free(here: SharedState, number: int) -> None:
    """Free slot ``number``: its loop has ended, or its process."""
    here.memory[_STATES + number] = 0


def _body(number: int) -> int:
    return _BODIES + SLOT_SIZE * number


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


def _write(here: SharedState, at: int, text: bytes) -> None:
    (sequence,) = _NUMBER.unpack_from(here.memory, at)
    # Odd while it changes: who reads then reads again.
    _NUMBER.pack_into(here.memory, at, sequence | 1)
    _LENGTH.pack_into(here.memory, at + 8, len(text))
    here.memory[at + 12 : at + 12 + len(text)] = text
    _NUMBER.pack_into(here.memory, at, (sequence | 1) + 1)


def _read(here: SharedState, at: int) -> tuple[int, Any] | None:
    for _ in range(_LOOKS):
        (before,) = _NUMBER.unpack_from(here.memory, at)
        if before & 1:
            time.sleep(0.0001)
            continue
        (length,) = _LENGTH.unpack_from(here.memory, at + 8)
        text = bytes(here.memory[at + 12 : at + 12 + length])
        if _NUMBER.unpack_from(here.memory, at)[0] == before:
            return before, json.loads(text) if text else None
    return None


def _forget() -> None:
    """In a child of the process: the slots are its parent's."""
    global _taking, _is_ending
    _taking = threading.Lock()
    _mine.clear()
    _is_ending = False


os.register_at_fork(after_in_child=_forget)
