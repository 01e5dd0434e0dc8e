"""The ledger of one run: which item was attempted when and by which process, told by the stages themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class Note:
    """One line: the start or end of an attempt at an item (or hook) of a stage; ``at`` is Unix time."""

    at: float
    pid: int
    stage: str
    key: str
    what: str

    @property
    def item(self) -> tuple[str, str]:
        return self.stage, self.key


class Ledger:
    """Reads the file anew each time it is asked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def notes(self) -> list[Note]:
        if not self.path.exists():
            return []
        notes = []
        for line in self.path.read_text().splitlines():
            at, pid, _run, stage, key, what = line.split(" ")
            notes.append(Note(float(at), int(pid), stage, key, what))
        return notes

    def starts(self, stage: str | None = None) -> list[Note]:
        return [note for note in self.notes() if note.what == "start" and stage in (None, note.stage)]

    def at_work(self, stage: str | None = None) -> list[Note]:
        """Attempts that have started and not ended, as far as their process has written."""
        last = {note.pid: note for note in self.notes()}
        return [note for note in last.values() if note.what == "start" and stage in (None, note.stage)]

    def starts_after(self, moment: float) -> list[Note]:
        return [note for note in self.starts() if note.at > moment]

    def repeats(self) -> dict[tuple[str, str], int]:
        """How often each item was attempted that was attempted more than once."""
        return {item: n for item, n in Counter(note.item for note in self.starts()).items() if n > 1}

    def last_of(self, pid: int) -> Note | None:
        """What process ``pid`` wrote last."""
        return next((note for note in reversed(self.notes()) if note.pid == pid), None)

    def seconds_to_repeat(self, lost: Note, since: float) -> float | None:
        """From ``since`` to the next attempt at the item of ``lost``."""
        later = [note.at for note in self.starts() if note.item == lost.item and note.at > since]
        return min(later) - since if later else None

    def longest_silence(self, since: float) -> float:
        """The longest time without the start of an item, from ``since`` to the last one."""
        moments = [since, *(note.at for note in self.starts_after(since))]
        return max((b - a for a, b in pairwise(moments)), default=0.0)
