"""``TryLater``: an item waits because somebody outside asks it to, as long as its stage allows, and people are told.

The item waits alone, in a slice of its own, and the items after it continue. If the next one must wait as well,
that is not about the item: then the slice waits as it is.
"""

from __future__ import annotations

from automation import leases
from automation.errors import LeaseLost
from automation.items.leased_slice import LeasedSlice
from automation.models import StageRun
from automation.pipeline import AnyStage, TryLater
from automation.pipeline.definition import Definition
from pause_manager.actor import SYSTEM
from pause_manager.observability import audit

EVERY = 10
"""People are told of an item's first wait and of every tenth."""
LONGEST_WORD = 500


class WaitLimitExceeded(Exception):
    """The item has asked to be tried later more often, or for longer, than its stage allows."""


def limit_exceeded(stage: AnyStage | Definition, work: LeasedSlice, later: TryLater) -> WaitLimitExceeded | None:
    """Why the current item of ``work`` may not wait once more, if it may not."""
    waits, seconds = work.waits + 1, work.waited_seconds + later.seconds
    if waits > stage.max_waits:
        return WaitLimitExceeded(f"asked to be tried later {waits} times, {stage.max_waits} are allowed: {later}")
    if not seconds <= stage.max_wait_seconds:
        return WaitLimitExceeded(
            f"asked to wait for {seconds:,.0f} s in all, {stage.max_wait_seconds:,.0f} s are allowed: {later}"
        )
    return None


def postpone(stage_run: StageRun, work: LeasedSlice, key: str, later: TryLater) -> None:
    """Give ``work`` back until its current item, ``key``, may be tried again. Raises :class:`LeaseLost`."""
    if not leases.postpone(work, later.seconds, told(later)):
        raise LeaseLost(f"Cannot give slice {work.slice_id} back: it is no longer held under token {work.token}.")
    _tell(stage_run, key, work.waits + 1, later)


def postpone_alone(stage_run: StageRun, work: LeasedSlice, key: str, group_size: int, later: TryLater) -> None:
    """Have the current item of ``work``, ``key``, wait alone; ``work`` continues. Raises :class:`LeaseLost`."""
    leases.split_off(work, group_size, seconds=later.seconds, why=told(later))
    _tell(stage_run, key, 1, later)


def told(later: TryLater) -> str:
    """What ``later`` says, as the database takes it."""
    return str(later).replace("\x00", "")[:LONGEST_WORD].encode(errors="replace").decode()


def _tell(stage_run: StageRun, key: str, waits: int, later: TryLater) -> None:
    if waits > 1 and waits % EVERY:
        return
    audit.record(
        "item_waits",
        scope=stage_run.run.scope,
        actor=SYSTEM,
        reason=f"{stage_run.slug}: {key} waits {later.seconds:g} s, for time {waits}: {told(later)}",
        details={"stage": stage_run.slug, "item": key, "waits": waits, "seconds": later.seconds},
    )
