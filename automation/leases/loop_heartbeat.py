"""What a worker's supervisor asks of the engine once per beat: keep the leases of its loops, and say which must stop.

A loop notes in its slot what it is on; nothing of it has to run for its lease to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from automation import conf
from automation.items.leased_slice import LeasedSlice
from automation.leases import renewals
from automation.leases.renewals import Loop, Renewed
from automation.models import Lifecycle
from pause_manager.holds.stops import Stop
from pause_manager.slots import stop_publisher
from pause_manager.slots.slot_table import SlotNote
from pause_manager.slots.stop_publisher import LoopStops, StopSource


def between_slices(stage_run_id: int) -> dict[str, Any]:
    """What a loop without a slice notes."""
    return {"stage_run": stage_run_id}


def on(work: LeasedSlice, *, is_ending: bool = False) -> dict[str, Any]:
    """What a loop at ``work`` notes; ``is_ending`` once it gives the slice back."""
    return {"stage_run": work.stage_run_id, "slice": work.slice_id, "token": work.token, "is_ending": is_ending}


LONG_SECONDS = 2.0
"""An item that is in progress for longer is told of with the beat."""


def _loop(one: SlotNote) -> Loop:
    known = Loop(one.about["stage_run"], one.about.get("slice"), one.about.get("token"), one.is_told_to_end)
    if one.work is None or one.work.seconds < LONG_SECONDS:
        return known
    limit = one.work.limit if isfinite(one.work.limit) else None
    return replace(known, number=one.work.number, seconds=one.work.seconds, limit=limit)


def judge(loops: Sequence[SlotNote]) -> LoopStops:
    """Renew all leases, say of whom it is known that he was told to end, and who must stop. One statement."""
    found = dict(zip((one.number for one in loops), renewals.renew([_loop(one) for one in loops]), strict=True))
    stops = {one.number: _stop(one.about, found[one.number]) for one in loops}
    return LoopStops(
        {number: stop for number, stop in stops.items() if stop is not None},
        is_whole=all(one.is_renewed for one in found.values() if one.is_held),
    )


def _stop(about: dict[str, Any], found: Renewed) -> Stop | None:
    has_slice = about.get("slice") is not None
    if found.lifecycle is None:
        return Stop("finished", "The run was deleted.")
    if has_slice and not found.is_held:
        # Given back, or about to be, and that is no loss.
        return None if about["is_ending"] else renewals.LEASE_LOST
    if not has_slice and found.lifecycle == Lifecycle.RUNNING and found.stage_lifecycle != Lifecycle.RUNNING:
        return Stop("finished", "The stage is finished.")
    stop = renewals.run_stop(found.lifecycle, found.is_cancel_requested)
    return stop or (Stop("yield", found.gives_way) if found.gives_way else None)


stop_publisher.register(StopSource(judge, lambda: conf.settings().heartbeat_seconds))
