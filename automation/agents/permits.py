"""How many of its items an agent may begin, where something limits them: an allowance, or starts a minute.

An agent keeps nothing between its calls, so what it may begin is what was drawn for its lease and not committed; see
``leases.allowances``. A start counts when its item is handed out, one at a time: of several that
an agent has, the last begins later than it was counted.
"""

from __future__ import annotations

import time

from automation.errors import InvalidCheckpoint
from automation.items import store
from automation.items.leased_slice import LeasedSlice
from automation.leases import allowances
from automation.models import StageRun
from automation.pipeline.definition import Definition
from automation.worker import pace
from pause_manager import resources
from pause_manager.holds.stops import Stop
from pause_manager.models import Resource
from pause_manager.resources.limits import SOON_SECONDS

OTHERS = Stop("budget", "What is left is begun by others: ask again in a moment.")


def draw(stage_run: StageRun, work: LeasedSlice, wanted: int) -> tuple[int, Stop | None]:
    """(how many items after the cursor its holder may begin, ``wanted`` at most; why not all of them).

    Call it outside transactions: it locks what pays for them.
    """
    allowance = allowances.of(stage_run)
    if allowance is None:
        return wanted, None
    drawn, stop = allowance.drawn(work), None
    if drawn < wanted:
        permit = allowance(work, wanted - drawn)
        drawn, stop = drawn + permit.passes, permit.stop or OTHERS
    return min(drawn, wanted), stop if drawn < wanted else None


def take_start(stage: Definition, wanted: int) -> tuple[int, Stop | None]:
    """(how many of its next items may start now, ``wanted`` at most; why none), by its resources' starts a minute.

    One that is near is waited for. Call it outside transactions.
    """
    if not wanted:
        return 0, None
    gives_up_at = time.monotonic() + SOON_SECONDS
    most = wanted
    for name in stage.uses:
        while True:
            count, seconds = resources.take_starts(name, 1)
            if count:
                break
            if time.monotonic() + seconds > gives_up_at:
                return 0, pace.stop_of(name)
            time.sleep(max(seconds, 0.001))
        if count > 0:
            most = 1
    return most, None


def taken_before(stage: Definition, wanted: int) -> int:
    """How many of its next items ``take_start`` let start, when the answer with them was lost."""
    is_limited = Resource.objects.filter(name__in=stage.uses, max_per_minute__isnull=False).exists()
    return 1 if is_limited else wanted


def begun(work: LeasedSlice, position: str) -> int:
    """The items after the cursor up to ``position``, a key without its prefix. Agents take items one by one."""
    if position <= work.cursor:
        return 0
    keys = store.read_keys(work.source_id or 0, first=work.first_key, after=work.cursor, up_to=position)
    return sum(1 for _ in keys)


def check(stage_run: StageRun, work: LeasedSlice, position: str) -> None:
    """Raise ``InvalidCheckpoint`` if its holder hands in more items than it may begin."""
    if allowances.of(stage_run) is None:
        return
    done = begun(work, position)
    may, stop = draw(stage_run, work, done)
    if may < done:
        why = stop.sentence if stop is not None else ""
        raise InvalidCheckpoint(f"Cannot checkpoint: it has {done} items, and {may} may begin. {why}".rstrip())
