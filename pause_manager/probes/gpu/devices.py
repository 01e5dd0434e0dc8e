"""Which GPUs a process may use: those that its container has, and of them what ``CUDA_VISIBLE_DEVICES`` names.

By the rules of CUDA (CUDA C++ Programming Guide, "CUDA Environment Variables"): the first name that is none ends the
list; a card in MIG mode stands for its first MIG device; numbers are counted by speed unless ``CUDA_DEVICE_ORDER`` is
``PCI_BUS_ID``, as the driver counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pause_manager.capacity.snapshot import GpuView
from pause_manager.probes.gpu.cards import GONE

MASK, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
BY_BUS = "PCI_BUS_ID"


@dataclass(frozen=True)
class Visible:
    """The ids of the GPUs that may be used, and a sentence if the mask cannot be understood or leaves none."""

    ids: tuple[str, ...] = ()
    problem: str = ""


def visible(
    gpus: Sequence[GpuView], mask: str | None, order: str = "", mounted: Collection[str] | None = None
) -> Visible:
    """What ``mask`` leaves of ``gpus``; ``None``: all. ``mounted`` are the UUIDs of the cards available here."""
    cards = [gpu for gpu in gpus if gpu.mig_of is None and gpu.problem != GONE]
    if mounted is not None:
        cards = [gpu for gpu in cards if gpu.uuid in mounted]
    ids = {card.id for card in cards}
    parts = [gpu for gpu in gpus if gpu.mig_of in ids]
    if mask is None:
        found = tuple(gpu.id for gpu in (*cards, *parts))
        return Visible(found, "" if found or not gpus else "none of the machine's cards is available here")
    names = [name.strip() for name in mask.split(",")]
    if any(name.isdecimal() for name in names) and differ(cards) and order != BY_BUS:
        return Visible(
            problem=f"{MASK}={mask} names cards by number, and they differ: set {ORDER}={BY_BUS}, or name UUIDs"
        )
    found = tuple(dict.fromkeys(_named(names, cards, parts)))
    return Visible(found, "" if found else f"{MASK}={mask} leaves none")


def differ(gpus: Sequence[GpuView]) -> bool:
    """Return whether CUDA may number the cards in another order than the driver."""
    return len({(gpu.name, gpu.total_mib) for gpu in gpus if gpu.mig_of is None}) > 1


def _named(names: Sequence[str], cards: Sequence[GpuView], parts: Sequence[GpuView]) -> Iterator[str]:
    for name in names:
        gpu = _one(name, cards, parts)
        if gpu is None:
            return
        own = [part for part in parts if part.mig_of == gpu.id]
        yield min(own, key=lambda part: part.index).id if own else gpu.id


def _one(name: str, cards: Sequence[GpuView], parts: Sequence[GpuView]) -> GpuView | None:
    if name.isdecimal():
        return cards[int(name)] if int(name) < len(cards) else None
    if not name.startswith(("GPU-", "MIG-")):
        return None
    found = [gpu for gpu in (*cards, *parts) if gpu.uuid.lower().startswith(name.lower())]
    return found[0] if len(found) == 1 else None


def mounted(root: Path = Path("/")) -> frozenset[str] | None:
    """The UUIDs of the cards whose device file is here; ``None`` where the kernel does not tell.

    A container that was given one card of a machine has the device file of that one.
    """
    found = set()
    try:
        for told in (root / "proc/driver/nvidia/gpus").iterdir():
            lines = (told / "information").read_text().splitlines()
            about = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            uuid, minor = about.get("GPU UUID", ""), about.get("Device Minor", "")
            if "?" in uuid or not uuid or not minor.isdecimal():
                return None
            if (root / f"dev/nvidia{minor}").exists():
                found.add(uuid)
    except OSError:
        return None
    return frozenset(found)


_NOT_INITIALISED = 3


def is_cuda_up() -> bool:
    """Return whether CUDA was initialised in this process: from then on it sees what the mask named at that moment."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        return bool(library.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != _NOT_INITIALISED)
    return False
