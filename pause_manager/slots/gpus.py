"""The GPUs that work is given, and what this process may use of the machine's.

``learn`` is told each sample in a worker's main process; the processes of its pool read the sample when they claim.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pause_manager import capacity
from pause_manager.capacity.snapshot import Gpu, NodeView
from pause_manager.probes import processes
from pause_manager.probes.gpu import devices
from pause_manager.slots import recycling

logger = logging.getLogger("pause_manager.slots.gpus")


class CannotIsolate(RuntimeError):
    """The process cannot be left with the GPUs of one piece of work alone; the sentence says why."""


def given(ids: Sequence[str], view: NodeView | None) -> tuple[Gpu, ...]:
    """The GPUs with these ids, with what ``view`` knows of them."""
    known = {gpu.id: gpu for gpu in _seen_here(view).gpus} if view is not None else {}
    found = []
    for one in ids:
        if (gpu := known.get(one)) is None:
            found.append(Gpu(one))
            continue
        card = known.get(gpu.mig_of or "", gpu)
        found.append(Gpu(one, card.index, gpu.name, gpu.total_mib))
    return tuple(found)


def offered(view: NodeView, among: Collection[str] | None = None) -> NodeView:
    """This machine with the GPUs that this process may use; ``among`` are those that it has already, if it has any."""
    if not view.gpus:
        return view
    found = _visible(view)
    ids = found.ids if among is None else [one for one in found.ids if one in among]
    gpus = tuple(gpu for gpu in view.gpus if gpu.id in ids)
    if len(gpus) == len(view.gpus):
        return view
    note = "" if gpus else f"no GPUs for its workers: {found.problem or f'their {devices.MASK} leaves none'}"
    return replace(view, gpus=gpus, gpu_note=note)


def _seen_here(view: NodeView) -> NodeView:
    """This machine with the cards that this container sees, as they are numbered in it."""
    return capacity.within(view, processes.container())


_told: list[str] | None = None
_complaint = ""
_resolved: dict[tuple[str, str], devices.Visible] = {}
"""By mask and order what they mean in this process. Numbers mean to CUDA what they meant when the process began."""
_outer: list[str | None] = []
"""The mask from before the isolation that this process is in."""


def learn(view: NodeView, speaks: bool = False) -> None:
    """Take note of the machine's GPUs, in a worker's main process, with each sample."""
    global _told, _complaint
    if not view.gpus:
        return
    here = _seen_here(view)
    found = _visible(here)
    is_all = len(found.ids) == len(view.gpus)
    _told = None if is_all else sorted(found.ids)
    complaint = f"This worker takes no GPU work: {found.problem}." if found.problem else _about_order(here)
    if complaint and complaint != _complaint:
        logger.warning("%s", complaint)
    _complaint = complaint


def told() -> list[str] | None:
    """The ids of the GPUs that this worker may use; ``None``: all of the machine's, or not known."""
    return _told


def _about_order(view: NodeView) -> str:
    if not devices.differ(view.gpus) or os.environ.get(devices.ORDER) == devices.BY_BUS:
        return ""
    return (
        f"The GPUs of this machine differ, and {devices.ORDER} is not {devices.BY_BUS}: CUDA numbers them otherwise "
        "than the driver does. Set it, or have work go by the UUIDs that it is given."
    )


def _visible(view: NodeView) -> devices.Visible:
    # Between two pieces of isolated work the mask is that of the worker, unless CUDA has been started with theirs.
    mask = os.environ.get(devices.MASK) if not _outer or devices.is_cuda_up() else _outer[0]
    order = os.environ.get(devices.ORDER, "")
    key = (mask or "", order)
    if mask is None or not any(name.strip().isdecimal() for name in mask.split(",")):
        return devices.visible(view.gpus, mask, order, devices.mounted())
    if key not in _resolved:
        found = devices.visible(view.gpus, mask, order, devices.mounted())
        if found.problem:
            return found
        _resolved[key] = found
    return _resolved[key]


def is_spent() -> bool:
    """Whether this process has started CUDA and another can take its place: isolated work is to begin in that one."""
    return recycling.is_possible() and devices.is_cuda_up()


@contextmanager
def isolated(given: Sequence[Gpu]) -> Iterator[None]:
    """Within, ``CUDA_VISIBLE_DEVICES`` of the process names these GPUs and no other. Raises :class:`CannotIsolate`.

    A process in which CUDA was started meanwhile keeps what it sees: one of a prefork pool is replaced afterwards, and
    a worker that works in its main process (``solo``) offers those GPUs and no other from then on.
    """
    if recycling.shares_process():
        raise CannotIsolate("Cannot isolate GPUs: this pool works on many tasks in one process. Use prefork or solo.")
    if _outer:
        raise CannotIsolate("Cannot isolate GPUs: this process works on something that is isolated.")
    before, mask = os.environ.get(devices.MASK), ",".join(gpu.uuid for gpu in given)
    if before != mask and devices.is_cuda_up():
        raise CannotIsolate(f"Cannot isolate GPUs: CUDA was started in this process with {devices.MASK}={before}.")
    _outer.append(before)
    os.environ[devices.MASK] = mask
    try:
        yield
    finally:
        _outer.clear()
        if not devices.is_cuda_up():
            _restore(before)
        elif recycling.is_possible():
            recycling.ask(f"CUDA was started in it with {devices.MASK}={mask}")


def _restore(mask: str | None) -> None:
    if mask is None:
        os.environ.pop(devices.MASK, None)
    else:
        os.environ[devices.MASK] = mask
