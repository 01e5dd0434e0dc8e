"""A page of memory that a worker's main process writes and the processes of its pool read: what is held, until when.

Reading it costs tens of nanoseconds and no statement. In pools that are one process the same object serves its threads.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PATH_VARIABLE = "SLACKWATER_PAGE"
"""Where a pool process that was spawned, not forked, finds the page."""

_MAGIC = b"slkwtr01"
_SEQUENCE = struct.Struct("<Q")
_PERMIT = struct.Struct("<d")
_LENGTH = struct.Struct("<I")
_TEXT = 4096
_TEXT_SIZE = 252 * 1024
_MARKS = _TEXT + _TEXT_SIZE
MOST_MARKS = 16 * 1024
_BEGUN = _MARKS + MOST_MARKS
_VOID = _BEGUN + MOST_MARKS
SLOTS = _VOID + MOST_MARKS
"""Where the slots of loops begin, see ``slots``. What nobody touches of them costs no memory."""
MOST_SLOTS = 2048
SLOT_SIZE = 8 * 1024
_SIZE = SLOTS + MOST_SLOTS * (5 + SLOT_SIZE)
_WRITER, _IS_SUPERVISED, _IS_SHUTTING_DOWN = 32, 40, 41
_LONGEST_SENTENCE = 500

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds by a clock that all processes of the machine share, that never jumps, and that runs while it sleeps."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True)
class ActiveHold:
    """One hold that covers something of the worker's."""

    mode: str
    sentence: str

    @property
    def quiesces(self) -> bool:
        return self.mode == "quiesce"


@dataclass(frozen=True)
class HoldSnapshot:
    """What a worker has read of the holds on the fleet, its node and its queues, and whom it asks to give way."""

    revision: int = 0
    everything: ActiveHold | None = None
    """Of the fleet or of the node."""
    queues: Mapping[str, ActiveHold] = field(default_factory=dict)
    yields: Mapping[str, str] = field(default_factory=dict)
    """By turn, the sentence that says why that task must go."""
    resources: Mapping[str, ActiveHold] = field(default_factory=dict)

    def covering(self, queue: str, uses: Iterable[str] = ()) -> ActiveHold | None:
        """The hold that keeps work of ``queue`` that uses these resources from starting."""
        return self.everything or self.queues.get(queue) or next(self._of_resources(uses), None)

    def _of_resources(self, uses: Iterable[str]) -> Iterator[ActiveHold]:
        return (self.resources[name] for name in uses if name in self.resources)

    def quiescing(self, queue: str, uses: Iterable[str] = ()) -> ActiveHold | None:
        """The hold that stops work of ``queue`` that uses these resources at its next boundary."""
        for held in (self.everything, self.queues.get(queue), *self._of_resources(uses)):
            if held is not None and held.quiesces:
                return held
        return None


class SharedState:
    """One writer, in the process that made it; any number of readers."""

    def __init__(self, memory: mmap.mmap, descriptor: int) -> None:
        self.memory = memory
        self.descriptor = descriptor
        """Of its file, for locks. Never closed: who closes one of a file lets go of all of his locks of it."""
        self._writing = threading.Lock()
        self._seen = b""
        self._control = HoldSnapshot()

    @classmethod
    def make(cls, *, is_told: bool = True) -> SharedState:
        """A new page. Its path is put into the environment, for pool processes that are spawned, unless not told."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("slackwater-page", getattr(os, "MFD_CLOEXEC", 0))
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
            page = cls._mapped(descriptor)
        else:
            descriptor, path = tempfile.mkstemp(prefix="slackwater-page-")
            page = cls._mapped(descriptor)
        if is_told:
            os.environ[PATH_VARIABLE] = path
        return page

    @classmethod
    def _mapped(cls, descriptor: int) -> SharedState:
        os.ftruncate(descriptor, _SIZE)
        memory = mmap.mmap(descriptor, _SIZE)
        memory[:8] = _MAGIC
        _SEQUENCE.pack_into(memory, _WRITER, os.getpid())
        return cls(memory, descriptor)

    @classmethod
    def open(cls, path: str) -> SharedState:
        """The page that another process has made. Raises ``OSError`` for no file, ``ValueError`` for no page."""
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        try:
            memory = mmap.mmap(descriptor, _SIZE)
            if memory[:8] != _MAGIC:
                raise ValueError(f"Cannot read {path}: it is no page of a Slackwater worker.")
        except BaseException:
            os.close(descriptor)
            raise
        return cls(memory, descriptor)

    @property
    def writer(self) -> int:
        """The process that made it."""
        pid: int = _SEQUENCE.unpack_from(self.memory, _WRITER)[0]
        return pid

    @property
    def is_supervised(self) -> bool:
        """Whether somebody keeps it true."""
        return self.memory[_IS_SUPERVISED] == 1

    @is_supervised.setter
    def is_supervised(self, value: bool) -> None:
        self.memory[_IS_SUPERVISED] = value

    @property
    def is_shutting_down(self) -> bool:
        """Whether its worker is about to end."""
        return self.memory[_IS_SHUTTING_DOWN] == 1

    @is_shutting_down.setter
    def is_shutting_down(self, value: bool) -> None:
        self.memory[_IS_SHUTTING_DOWN] = value

    def write(self, control: HoldSnapshot, *, permit_until: float) -> None:
        """Tell every reader ``control``, good until ``permit_until`` (see :func:`now`; ``inf``: for good)."""
        text = _encoded(control)
        with self._writing:
            (sequence,) = _SEQUENCE.unpack_from(self.memory, 8)
            # Odd while it changes: who reads then reads again.
            _SEQUENCE.pack_into(self.memory, 8, sequence | 1)
            _LENGTH.pack_into(self.memory, 24, len(text))
            self.memory[_TEXT : _TEXT + len(text)] = text
            _PERMIT.pack_into(self.memory, 16, permit_until)
            _SEQUENCE.pack_into(self.memory, 8, (sequence | 1) + 1)

    def renew(self, *, permit_until: float) -> None:
        """The same is true for longer, or (0) for no longer."""
        with self._writing:
            _PERMIT.pack_into(self.memory, 16, permit_until)

    @property
    def control(self) -> HoldSnapshot:
        """What was written last."""
        sequence = self.memory[8:16]
        if sequence != self._seen:
            self._read()
        return self._control

    @property
    def is_permitted(self) -> bool:
        """Whether what was written last is still good."""
        permit_until: float = _PERMIT.unpack_from(self.memory, 16)[0]
        return now() < permit_until

    def mark(self, number: int) -> None:
        """Set mark ``number`` (0 to ``MOST_MARKS - 1``): the task it was given to asks whether it should stop."""
        self.memory[_MARKS + number] = 1

    def is_marked(self, number: int) -> bool:
        return self.memory[_MARKS + number] == 1

    def unmark(self, number: int) -> None:
        self.memory[_MARKS + number] = self.memory[_BEGUN + number] = self.memory[_VOID + number] = 0

    def begin(self, number: int) -> bool:
        """The task of mark ``number`` is about to begin; whether it may: we see the void, or it sees us begin."""
        self.memory[_BEGUN + number] = 1
        return self.memory[_VOID + number] == 0

    def void(self, number: int) -> bool:
        """The task of mark ``number`` is to run elsewhere, unless it has begun; whether it is void."""
        self.memory[_VOID + number] = 1
        return self.memory[_BEGUN + number] == 0

    def _read(self) -> None:
        for _ in range(1000):
            before = self.memory[8:16]
            if before[0] & 1:
                time.sleep(0.0001)
                continue
            (length,) = _LENGTH.unpack_from(self.memory, 24)
            text = self.memory[_TEXT : _TEXT + length]
            if self.memory[8:16] == before:
                # The control first: who sees the new sequence in another thread must not read the old control.
                self._control = _decoded(text) if text else HoldSnapshot()
                self._seen = before
                return
        raise RuntimeError("Cannot read the page of the worker: it is being written all the time.")


def _encoded(control: HoldSnapshot) -> bytes:
    def told(longest: int) -> dict[str, Any]:
        return {
            "revision": control.revision,
            "everything": control.everything and [control.everything.mode, control.everything.sentence[:longest]],
            "queues": {queue: [held.mode, held.sentence[:longest]] for queue, held in control.queues.items()},
            "resources": {name: [held.mode, held.sentence[:longest]] for name, held in control.resources.items()},
            "yields": {turn: sentence[:longest] for turn, sentence in control.yields.items()},
        }

    for longest in (_LONGEST_SENTENCE, 60, 0):
        text = json.dumps(told(longest)).encode()
        if len(text) <= _TEXT_SIZE:
            return text
    # Thousands of held queues in one worker: then it takes nothing at all.
    everything = ["drain", "more holds than a worker can tell its processes"]
    return json.dumps({"revision": control.revision, "everything": everything, "queues": {}, "yields": {}}).encode()


def _decoded(text: bytes) -> HoldSnapshot:
    told = json.loads(text)
    return HoldSnapshot(
        revision=told["revision"],
        everything=ActiveHold(*told["everything"]) if told["everything"] else None,
        queues={queue: ActiveHold(*held) for queue, held in told["queues"].items()},
        yields=told["yields"],
        resources={name: ActiveHold(*held) for name, held in told.get("resources", {}).items()},
    )


_page: SharedState | None = None
_opening = threading.Lock()


def make() -> SharedState:
    """A new page for this worker; called in its main process before the pool starts."""
    global _page
    _page = SharedState.make()
    return _page


def current() -> SharedState | None:
    """The page of the worker that this process belongs to; ``None`` outside a worker."""
    global _page
    if _page is None and PATH_VARIABLE in os.environ:
        with _opening:
            path = os.environ.get(PATH_VARIABLE)
            if _page is None and path:
                try:
                    _page = SharedState.open(path)
                except (OSError, ValueError):
                    # Inherited by a process that is of no worker's, or the worker has ended.
                    os.environ.pop(PATH_VARIABLE, None)
    return _page
