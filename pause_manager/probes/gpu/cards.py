"""Which GPU is which from one answer of the driver to the next: by UUID, as the driver's numbers move."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pause_manager.capacity.snapshot import GpuView

Entry = dict[str, Any]
"""What the driver process says of one GPU; one that cannot be read has no ``total_mib``."""

GONE = "it is gone: the driver no longer lists it"
WHOSE = "cannot tell whose memory is used: the driver's process ids are of another namespace"

_UNREADABLE: dict[str, Any] = {
    "free_mib": None,
    "utilisation": None,
    "temperature_c": None,
    "own_mib": 0,
    "processes": 0,
    "own_processes": 0,
    "note": "",
}


class Cards:
    """The cards of this machine. One that was seen and is gone stays listed, with a problem."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = f"{root}/proc"
        self._known: dict[str, GpuView] = {}
        self._numbers: dict[int, str] = {}
        """The UUIDs of the cards in the last answer by index; empty of those that could not be read."""
        self._missing: dict[str, frozenset[int]] = {}
        """By card the process ids of the last answer that nobody has here."""

    @property
    def is_empty(self) -> bool:
        """Return whether no card was ever seen."""
        return not self._known

    def unknown(self, reason: str) -> tuple[GpuView, ...]:
        """All of them, when none can be read."""
        return tuple(replace(gpu, **_UNREADABLE, problem=reason) for gpu in self._known.values())

    def have_moved(self, entries: Iterable[Entry]) -> bool:
        """Return whether a number means another card than in the last answer, or there are more or fewer of them."""
        now = _numbers(entries)
        if now.keys() != self._numbers.keys():
            return bool(self._numbers)
        return any(uuid and self._numbers[index] not in ("", uuid) for index, uuid in now.items())

    def seen(self, entries: Iterable[Entry], own_pids: Collection[int]) -> tuple[GpuView, ...]:
        """The cards after one more answer, in the driver's order."""
        entries = list(entries)
        self._numbers = _numbers(entries)
        read: list[GpuView] = []
        silent: list[Entry] = []
        for entry in entries:
            if "total_mib" in entry:
                read.append(self._view(entry, own_pids))
            else:
                silent.append(entry)
        found = {gpu.id: gpu for gpu in read}
        unseen = {gpu.id: gpu for gpu in self._known.values() if gpu.id not in found and gpu.mig_of is None}
        for entry in silent:
            problem = str(entry["problem"])
            card = _likeliest(entry["index"], unseen, is_only_one=len(silent) == 1)
            if card is None:
                card = GpuView(index=entry["index"], total_mib=0, free_mib=None)
            else:
                del unseen[card.id]
            found[card.id] = replace(card, **_UNREADABLE, index=entry["index"], problem=problem)
        found |= {card.id: replace(card, **_UNREADABLE, problem=GONE) for card in unseen.values()}
        for part in self._known.values():
            # The parts of a MIG card come and go; but those of a card that cannot be read may be there still.
            card = found.get(part.mig_of or "")
            if card is not None and card.free_mib is None and part.id not in found:
                found[part.id] = replace(part, **_UNREADABLE, problem=f"its card: {card.problem}")
        shown = tuple(sorted(found.values(), key=lambda gpu: (gpu.index, gpu.problem == GONE)))
        # What has never been read has no name to know it by.
        self._known = {gpu.id: gpu for gpu in shown if gpu.uuid or gpu.total_mib}
        self._missing = {card: pids for card, pids in self._missing.items() if card in found}
        return shown

    def _view(self, entry: Entry, own_pids: Collection[int]) -> GpuView:
        used = {int(pid): mib for pid, mib in entry["processes"]}
        own = {pid: mib for pid, mib in used.items() if pid in own_pids}
        known = GpuView(**{name: value for name, value in entry.items() if name != "processes"}, processes=len(used))
        missing = frozenset(pid for pid in used if pid not in own_pids and not os.path.exists(f"{self._proc}/{pid}"))
        before, self._missing[known.id] = self._missing.get(known.id, frozenset()), missing
        if missing & before:  # in two answers: it has not just ended
            return replace(known, note=WHOSE)
        return replace(known, own_mib=sum(mib or 0 for mib in own.values()), own_processes=len(own))


def _numbers(entries: Iterable[Entry]) -> dict[int, str]:
    return {entry["index"]: entry.get("uuid", "") for entry in entries if entry.get("mig_of") is None}


def _likeliest(index: int, unseen: dict[str, GpuView], *, is_only_one: bool) -> GpuView | None:
    """Return which of the ``unseen`` cards it is that cannot be read under this number; ``None`` if it could be any."""
    if is_only_one and len(unseen) == 1:
        return next(iter(unseen.values()))
    return next((card for card in unseen.values() if card.index == index), None)
