"""What follows by itself: ended runs are settled, what cannot continue is parked, low balances are told.

Each part works in batches and may be repeated or run twice at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from automation.contrib.credits import allowance, ledger, low_balances, starting
from automation.contrib.credits.amounts import written
from automation.contrib.credits.models import Billing, Grant, RunCredits, StagePrice, Usage
from automation.contrib.credits.models.tables import USAGE
from automation.contrib.credits.payments import orders
from automation.models import AutomationRun, Lifecycle, StageRun, WorkSlice
from automation.models.tables import SLICE
from pause_manager import database, holds, scopes
from pause_manager.actor import SYSTEM, Actor
from pause_manager.models import Hold
from pause_manager.observability import audit

logger = logging.getLogger("automation.contrib.credits.settling")

BATCH = 200


def sweep() -> None:
    """Do all of it; an error in one part is logged, and keeps none of the others."""
    parts: tuple[Callable[[], int], ...] = (
        settle_ended,
        take_late_usage,
        park_unpaid,
        resume_covered,
        low_balances.tell,
        orders.drop_unpaid,
        add_up,
    )
    for part in parts:
        try:
            part()
        except Exception as error:
            if database.is_away(error):
                database.log_outage(error, f"credits: {part.__name__}")
            else:
                logger.exception("%s failed; continuing with the others.", part.__name__)


def settle_ended() -> int:
    """Settle every run that has ended and of which nothing is leased any more; returns how many."""
    settled, after = 0, None
    while True:
        rows = RunCredits.objects.filter(settled_at__isnull=True).order_by("created_at", "run_id")
        if after is not None:
            rows = rows.filter(created_at__gte=after[0]).exclude(created_at=after[0], run_id__lte=after[1])
        page = list(rows[:BATCH])
        if not page:
            return settled
        ids = [row.run_id for row in page]
        unfinished = set(AutomationRun.objects.unfinished().filter(pk__in=ids).values_list("pk", flat=True))
        leased = set(WorkSlice.objects.leased().filter(stage_run__run__in=ids).values_list("stage_run__run", flat=True))
        for row in page:
            if row.run_id not in unfinished | leased:
                settled += settle(row.run_id)
        after = (page[-1].created_at, page[-1].run_id)


def settle(run_id: UUID) -> bool:
    """Give back what an ended run has set aside and take what it has used; False if that was done before."""
    with transaction.atomic():
        row = RunCredits.objects.filter(pk=run_id).first()
        if row is None:
            return False
        ledger.billing_of(row.account_id)
        if not RunCredits.objects.filter(pk=run_id, settled_at__isnull=True).update(settled_at=Now()):
            return False
        if row.reserved:
            ledger.settle(row.account_id, run_id, row.reserved, actor=SYSTEM)
        used = _take_usage(row.account_id, run_id)
        Grant.objects.filter(run_id=run_id).delete()
        audit.record(
            "credits_settled",
            scope=scopes.run(run_id),
            actor=SYSTEM,
            reason=f"it has used {written(used)} credits of {written(row.reserved)} set aside",
            details={"used": written(used), "reserved": written(row.reserved)},
        )
    return True


def _take_usage(account_id: int, run_id: UUID) -> int:
    """Take what the run has used from the account's funds; returns thousandths of a credit. The account is locked."""
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE_USAGE, {"run": run_id})
        used = int(cursor.fetchone()[0])
    ledger.use_funds(account_id, used)
    return used


def take_late_usage() -> int:
    """Take what was booked for runs after they were settled; returns of how many runs."""
    settled = RunCredits.objects.filter(settled_at__isnull=False)
    late = Usage.objects.filter(is_settled=False, run_id__in=settled.values("run_id"))
    found = list(late.order_by().values_list("account_id", "run_id").distinct()[:BATCH])
    for account_id, run_id in found:
        with transaction.atomic():
            ledger.billing_of(account_id)
            _take_usage(account_id, run_id)
    return len(found)


def park_unpaid() -> int:
    """Hold the running runs that cannot pay for another item, for those whose loops do not draw; returns how many."""
    running = StageRun.objects.filter(
        lifecycle=Lifecycle.RUNNING,
        run__lifecycle=Lifecycle.RUNNING,
        run__cancel_requested_at__isnull=True,
        run__paused_at__isnull=True,
        run__in=RunCredits.objects.filter(settled_at__isnull=True).values("run_id"),
    )
    ids = list(running.values_list("pk", flat=True))
    parked = 0
    for price in StagePrice.objects.filter(pk__in=ids, expected__gt=0):
        room = starting.room_of(price)
        if room.amount < price.expected and not room.outstanding:
            parked += allowance.park(price).stop is not None
    return parked


def resume_covered(account_id: int | None = None) -> int:
    """Resume what a top-up covers, where the account's policy says so; returns how many runs."""
    accounts = Billing.objects.filter(on_top_up=Billing.OnTopUp.RESUME)
    if account_id is not None:
        accounts = accounts.filter(pk=account_id)
    budget_holds = (
        Hold.objects.active().filter(kind=Hold.Kind.BUDGET, scope__startswith=scopes.RUNS).order_by("created_at")
    )
    run_ids = [UUID(pk) for pk in scopes.runs_in(budget_holds.values_list("scope", flat=True))]
    if not run_ids:
        return 0
    rows = AutomationRun.objects.unfinished().filter(pk__in=run_ids, account__in=accounts.values("pk"))
    due = set(rows.values_list("pk", flat=True))
    return sum(_resume(pk) for pk in run_ids if pk in due)


def _resume(run_id: UUID) -> bool:
    if starting.CONDITION.unmet(run_id):
        return False
    actor = Actor("credits", "policy")
    return bool(holds.release([scopes.run(run_id)], kind=Hold.Kind.BUDGET, actor=actor, reason="its credits suffice"))


def add_up() -> int:
    """Add rows of finished slices to the row of their stage, so that sums stay quick; returns how many."""
    added = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_ADD_UP, {"most": 5_000})
            rows = int(cursor.fetchone()[0])
        added += rows
        if rows < 5_000:
            return added


# A row that is settled twice would be taken twice: what is flagged is added to the flagged row of its stage.
_SETTLE_USAGE = f"""
    WITH taken AS (
        DELETE FROM {USAGE} WHERE run_id = %(run)s AND NOT is_settled RETURNING *
    ), kept AS (
        INSERT INTO {USAGE} AS kept (account_id, site_id, run_id, stage_run_id, slice_id, stage, function, month,
                                     items, charged, cost, is_settled)
        SELECT account_id, site_id, run_id, stage_run_id, 0, stage, function, month,
               sum(items), sum(charged), sum(cost), true
          FROM taken GROUP BY 1, 2, 3, 4, 6, 7, 8
            ON CONFLICT (stage_run_id, slice_id, month, is_settled) DO UPDATE
           SET items = kept.items + excluded.items, charged = kept.charged + excluded.charged,
               cost = kept.cost + excluded.cost
    )
    SELECT coalesce(sum(charged), 0)::bigint FROM taken
"""
_ADD_UP = f"""
    WITH ended AS (
        SELECT used.id FROM {USAGE} AS used JOIN {SLICE} AS slice ON slice.id = used.slice_id
         WHERE NOT used.is_settled AND used.slice_id > 0 AND slice.finished_at IS NOT NULL
         LIMIT %(most)s FOR UPDATE OF used SKIP LOCKED
    ), taken AS (
        DELETE FROM {USAGE} WHERE id IN (SELECT id FROM ended) RETURNING *
    ), kept AS (
        INSERT INTO {USAGE} AS kept (account_id, site_id, run_id, stage_run_id, slice_id, stage, function, month,
                                     items, charged, cost, is_settled)
        SELECT account_id, site_id, run_id, stage_run_id, 0, stage, function, month,
               sum(items), sum(charged), sum(cost), false
          FROM taken GROUP BY 1, 2, 3, 4, 6, 7, 8
            ON CONFLICT (stage_run_id, slice_id, month, is_settled) DO UPDATE
           SET items = kept.items + excluded.items, charged = kept.charged + excluded.charged,
               cost = kept.cost + excluded.cost
    )
    SELECT count(*) FROM taken
"""
