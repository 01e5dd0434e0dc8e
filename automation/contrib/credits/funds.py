"""What an account has, and what of it a run may still use; exact while the account's billing row is locked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from automation.contrib.credits.models.tables import BILLING, GRANT, RUN_CREDITS, SITE_BUDGET, USAGE
from automation.models.tables import RUN, SLICE

MONTH = "date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC')::date"


@dataclass(frozen=True)
class Funds:
    """Of an account, in thousandths of a credit."""

    balance: int
    """All that is not used: what is set aside for runs and not used by them is part of it."""
    reserved: int
    """Set aside for runs, and not used or begun by them."""
    overdraft: int

    @property
    def available(self) -> int:
        """What another run may have, the overdraft included."""
        return self.balance - self.reserved + self.overdraft


def of_account(account_id: int) -> Funds:
    """The funds of an account; one without a billing row has nothing. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_FUNDS, {"account": account_id})
        funds, overdraft, used, claimed = cursor.fetchone()
    return Funds(balance=funds - used, reserved=claimed - used, overdraft=overdraft)


@dataclass(frozen=True)
class Room:
    """What a run may still begin, in thousandths of a credit, and the limit that is met first."""

    amount: int
    limited_by: str
    """``balance``, ``run``, ``site`` or ``function``."""
    outstanding: int
    """Of it, or beyond it: what holders of slices were granted under that limit and have not committed."""


def of_run(run_id: UUID, account_id: int, site_id: int, function: str, share: int | None, is_split: bool) -> Room:
    """What ``run_id`` may still begin in ``function``, which may use ``share`` percent of its site's month.

    Two queries; what was granted counts as used.
    """
    values: dict[str, Any] = {"account": account_id, "run": run_id, "site": site_id, "function": function}
    with connection.cursor() as cursor:
        cursor.execute(_ROOM, values)
        funds, overdraft, claimed, own_amount, own_reserved, own_granted, granted, limit = cursor.fetchone()
        free = funds + overdraft - claimed + max(0, own_reserved - own_amount)
        found = [Room(free, "balance", granted)]
        if limit is not None:
            found.append(Room(limit - own_amount, "run", own_granted))
        cursor.execute(_SITE, values)
        row = cursor.fetchone()
    if row is not None:
        monthly, used, used_by_function, out, out_by_function = row
        found.append(Room(monthly - used - out, "site", out))
        if is_split and share is not None:
            most = monthly * share // 100
            found.append(Room(most - used_by_function - out_by_function, "function", out_by_function))
    return min(found, key=lambda room: room.amount)


_LIVE = f"""
    {GRANT} AS given JOIN {SLICE} AS slice ON slice.id = given.slice_id AND slice.lease_token = given.token
"""
# What a run uses comes out of what was set aside for it, so of the two the larger one is taken. With its end nothing is
# set aside any more, whenever that is booked.
_CLAIMS = f"""
    WITH used AS (
        SELECT run_id, sum(charged) AS amount FROM {USAGE} WHERE account_id = %(account)s AND NOT is_settled GROUP BY 1
    ), granted AS (
        SELECT given.run_id, sum((given.granted - given.done) * given.expected) AS amount FROM {_LIVE}
         WHERE given.account_id = %(account)s AND given.granted > given.done GROUP BY 1
    ), open AS (
        SELECT credit.run_id, credit.reserved FROM {RUN_CREDITS} AS credit JOIN {RUN} AS run ON run.id = credit.run_id
         WHERE credit.account_id = %(account)s AND credit.settled_at IS NULL AND run.finished_at IS NULL
    ), claims AS (
        SELECT run_id, coalesce(used.amount, 0) AS used, coalesce(granted.amount, 0) AS granted,
               coalesce(open.reserved, 0) AS reserved
          FROM open FULL JOIN used USING (run_id) FULL JOIN granted USING (run_id)
    )
"""
_FUNDS = f"""
    {_CLAIMS}
    SELECT coalesce((SELECT funds FROM {BILLING} WHERE account_id = %(account)s), 0)::bigint,
           coalesce((SELECT overdraft FROM {BILLING} WHERE account_id = %(account)s), 0)::bigint,
           coalesce(sum(used), 0)::bigint, coalesce(sum(greatest(used + granted, reserved)), 0)::bigint
      FROM claims
"""
_ROOM = f"""
    {_CLAIMS}
    SELECT coalesce((SELECT funds FROM {BILLING} WHERE account_id = %(account)s), 0)::bigint,
           coalesce((SELECT overdraft FROM {BILLING} WHERE account_id = %(account)s), 0)::bigint,
           coalesce(sum(greatest(used + granted, reserved)), 0)::bigint,
           coalesce(sum(used + granted) FILTER (WHERE run_id = %(run)s), 0)::bigint,
           coalesce(sum(reserved) FILTER (WHERE run_id = %(run)s), 0)::bigint,
           coalesce(sum(granted) FILTER (WHERE run_id = %(run)s), 0)::bigint,
           coalesce(sum(granted), 0)::bigint,
           (SELECT "limit" FROM {RUN_CREDITS} WHERE run_id = %(run)s)
      FROM claims
"""
_SITE = f"""
    SELECT budget.monthly, coalesce(used.amount, 0)::bigint, coalesce(used.by_function, 0)::bigint,
           coalesce(granted.amount, 0)::bigint, coalesce(granted.by_function, 0)::bigint
      FROM {SITE_BUDGET} AS budget
     CROSS JOIN (SELECT sum(charged) AS amount, sum(charged) FILTER (WHERE function = %(function)s) AS by_function
                   FROM {USAGE} WHERE site_id = %(site)s AND month = {MONTH}) AS used
     CROSS JOIN (SELECT sum((given.granted - given.done) * given.expected) AS amount,
                        sum((given.granted - given.done) * given.expected)
                            FILTER (WHERE given.function = %(function)s) AS by_function
                   FROM {_LIVE} WHERE given.account_id = %(account)s AND given.site_id = %(site)s
                    AND given.granted > given.done) AS granted
     WHERE budget.site_id = %(site)s AND budget.monthly IS NOT NULL
"""
