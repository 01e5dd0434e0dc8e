"""Draws, for the holder of a slice, as many items as can be paid for, and parks the run at the first that cannot.

The account's billing row is locked for a draw, so that two loops never draw the same credits. What was drawn counts as
used until the checkpoint books what it did cost, or the lease ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection, transaction

from automation.contrib.credits import ledger, starting
from automation.contrib.credits.models import Grant, StagePrice
from automation.contrib.credits.models.tables import GRANT
from automation.items.leased_slice import LeasedSlice
from automation.leases import allowances
from automation.leases.allowances import Draw, Permit
from automation.models import StageRun
from automation.models.runs import lock_runs
from pause_manager import holds, scopes
from pause_manager.actor import SYSTEM
from pause_manager.holds.stops import Stop
from pause_manager.models import Hold

SPREAD = 4
"""A draw takes this part of what is left at most, so that the last credits are not set aside by one loop alone."""


@dataclass(frozen=True)
class Purse:
    """Of a stage with a price."""

    price: StagePrice

    def __call__(self, work: LeasedSlice, wanted: int, /) -> Permit:
        return draw(self.price, work, wanted)

    def drawn(self, work: LeasedSlice, /) -> int:
        held = Grant.objects.filter(pk=work.slice_id, token=work.token).first()
        return 0 if held is None else max(0, held.granted - held.done)


def limits(stage_run: StageRun) -> Draw | None:
    """How a loop of the stage draws, if an item of it costs anything."""
    price = StagePrice.objects.filter(pk=stage_run.pk, expected__gt=0).first()
    return None if price is None else Purse(price)


allowances.register(limits)


def draw(price: StagePrice, work: LeasedSlice, wanted: int) -> Permit:
    """Let the holder of ``work`` begin up to ``wanted`` passes.

    It parks the run if none can be paid for, and nothing that was drawn before can still turn out to cost less.
    """
    with transaction.atomic():
        _lock(price)
        room = starting.room_of(price)
        passes = min(wanted, max(room.amount // price.expected // SPREAD, min(1, room.amount // price.expected)))
        if passes > 0:
            _grant(price, work, passes)
            return Permit(passes)
        held = Grant.objects.filter(pk=work.slice_id, token=work.token).first()
    if held is not None and held.granted > held.done:
        # What it has begun is not booked yet: the next loop looks again.
        return Permit(0, Stop("budget", "It has begun all the items that were drawn for it."))
    if room.outstanding > 0:
        return Permit(0)
    return park(price)


def park(price: StagePrice) -> Permit:
    """Hold the run, unless it can pay by now."""
    with transaction.atomic():
        lock_runs([str(price.run_id)])
        _lock(price)
        why = starting.why_not(price)
        if why is None:
            return Permit(0)
        holds.place([scopes.run(price.run_id)], kind=Hold.Kind.BUDGET, actor=SYSTEM, reason=f"it {why}")
    return Permit(0, Stop("budget", f"The run {why}."))


def _lock(price: StagePrice) -> None:
    ledger.billing_of(price.account_id)


def _grant(price: StagePrice, work: LeasedSlice, passes: int) -> None:
    with connection.cursor() as cursor:
        # A grant that a crash of the server forgets is drawn again.
        cursor.execute("SET LOCAL synchronous_commit = off")
        cursor.execute(
            _GRANT,
            {
                "slice": work.slice_id,
                "token": work.token,
                "account": price.account_id,
                "site": price.site_id,
                "run": price.run_id,
                "function": price.function,
                "expected": price.expected,
                "passes": passes,
            },
        )


_GRANT = f"""
    INSERT INTO {GRANT} AS kept (slice_id, token, account_id, site_id, run_id, function, expected, granted, done)
    VALUES (%(slice)s, %(token)s, %(account)s, %(site)s, %(run)s, %(function)s, %(expected)s, %(passes)s, 0)
        ON CONFLICT (slice_id) DO UPDATE
       SET token = excluded.token,
           granted = excluded.granted + CASE WHEN kept.token = excluded.token THEN kept.granted ELSE 0 END,
           done = CASE WHEN kept.token = excluded.token THEN kept.done ELSE 0 END
"""
