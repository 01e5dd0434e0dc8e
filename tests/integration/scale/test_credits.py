"""However long the ledger is, no statement of credits walks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from functools import partial

import pytest
from django.db import connection

from automation.contrib.credits import (
    allowance,
    budgets,
    estimates,
    funds,
    invoices,
    ledger,
    low_balances,
    reports,
    settling,
    starting,
)
from automation.contrib.credits.models import StagePrice, Usage
from automation.contrib.credits.models.tables import GRANT, LINE, RUN_CREDITS, STAGE_PRICE, TRANSFER, USAGE
from automation.contrib.credits.payments import orders
from automation.items import store
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.models import AutomationRun
from tests.integration.credits.test_api import CREDITS, MANAGE, SEE
from tests.support.api_users import OPERATE, VIEW, client_of, make_user
from tests.support.credit_books import CREDIT, budget_of, funded_site, price_of
from tests.support.factories import OPERATOR, leased, make_run
from tests.support.query_plans import Explainer

pytestmark = pytest.mark.django_db(transaction=True)

RUNS, MOST_READ = 20_000, 2_500
A_YEAR_OF_THE_ACCOUNT = RUNS // 4 + 10
"""Rows: it has every second run, in 24 months. A year's usage reads a row for each of its runs, and no other's."""
TABLES = (GRANT, LINE, RUN_CREDITS, STAGE_PRICE, TRANSFER, USAGE)


def fill(account_id: int, site_id: int) -> None:
    """Settled runs of a few accounts, with ten charges each; those of this account are the oldest half."""
    values = {"account": account_id, "site": site_id, "runs": RUNS}
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        for statement in _STATEMENTS:
            cursor.execute(statement, values)
        for table in TABLES:
            cursor.execute(f"VACUUM ANALYZE {table}")


_RUN = "md5('run ' || n)::uuid"
_ACCOUNT = "CASE WHEN n %% 2 = 0 THEN %(account)s ELSE 1000000 + n %% 50 END"
_STATEMENTS = (
    f"""
    INSERT INTO {RUN_CREDITS} (run_id, account_id, site_id, estimate, reserved, created_at, settled_at)
    SELECT {_RUN}, {_ACCOUNT}, %(site)s, 10, 12, now() - interval '1 hour', now() FROM generate_series(1, %(runs)s) AS n
    """,
    f"""
    INSERT INTO {STAGE_PRICE} (stage_run_id, run_id, account_id, site_id, pipeline, stage, function, price_id, unit,
                               charge, cost, charges_failed, text_field, group_size, expected, prefixes)
    SELECT 100000000 + n, {_RUN}, {_ACCOUNT}, %(site)s, 'few', 'few', 'few', 1, 'item', 1, 0, false, '', 1, 1, '{{}}'
      FROM generate_series(1, %(runs)s) AS n
    """,
    f"""
    INSERT INTO {USAGE} (account_id, site_id, run_id, stage_run_id, slice_id, stage, function, month, items, charged,
                         cost, is_settled)
    SELECT {_ACCOUNT}, %(site)s, {_RUN}, 100000000 + n, 0, 'few', 'few',
           (date_trunc('month', now()) - make_interval(months => 1 + n %% 24))::date, 10, 10, 0, true
      FROM generate_series(1, %(runs)s) AS n
    """,
    f"""
    INSERT INTO {TRANSFER} (kind, unit, account_id, run_id, stage, actor, reason, xact)
    SELECT 'charge', 'credits', {_ACCOUNT}, {_RUN}, 'few', 'system', '', pg_current_xact_id()::text::bigint
      FROM generate_series(1, %(runs)s) AS n, generate_series(1, 5)
    """,
    "SET LOCAL synchronous_commit = off",
)


def everything(run: AutomationRun, client) -> Iterator[tuple[str, Callable[[], object]]]:
    price = StagePrice.objects.get(run_id=run.pk)
    work = leased(run)
    account = run.site.account
    yield "funds", lambda: funds.of_account(account.pk)
    yield "room", lambda: starting.room_of(price)
    yield "draw", lambda: allowance.draw(price, work, 1)
    rows = store.output_rows("000", [{"n": 1}])
    yield "checkpoint", lambda: checkpoint.commit(work, Progress(cursor="000", processed=1, outputs=rows))
    yield "draw again", lambda: allowance.draw(price, work, 1)
    yield "top-up", lambda: ledger.top_up(account, CREDIT, key="more", actor=OPERATOR)
    yield "estimate", lambda: estimates.of_run(run, estimates.prices_of(run.pipeline))
    yield "card", lambda: reports.of_run(run.pk)
    yield "budget", lambda: budgets.of_site(run.site_id, account.pk)
    yield "used by function", lambda: reports.used_by_function(run.site_id)
    for part in (settling.settle_ended, settling.park_unpaid, settling.resume_covered, settling.add_up):
        yield part.__name__, part
    yield "late usage", settling.take_late_usage
    yield "low balances", low_balances.tell
    yield "invoices of a month without usage", lambda: list(invoices.issue_month(date(2020, 1, 1), actor=OPERATOR))
    yield "payments that were not paid", orders.drop_unpaid
    for path in ("usage/chart/?", "usage/rows/?by=run&"):
        yield f"GET {path}", partial(client.get, f"{CREDITS}{path}since=2020-01-01&until=2020-01-31")
    for path in ("accounts/", f"transfers/?account={account.pk}", "transfers/", f"runs/{run.pk}/", "usage/"):
        yield f"GET {path}", partial(client.get, CREDITS + path)


@pytest.mark.slow
def test_no_statement_of_credits_looks_at_more_than_it_needs():
    site = funded_site(1_000, low_balance=CREDIT)
    budget_of(site, monthly=1_000 * CREDIT, is_split=False)
    price_of("few", "few")
    fill(site.account_id, site.pk)
    run = make_run("few", items=5, site=site)
    client = client_of(make_user("max", site, VIEW, OPERATE, SEE, MANAGE))
    explained = Explainer(TABLES)

    for label, call in everything(run, client):
        with explained.of(label):
            call()

    assert Usage.objects.count() > RUNS
    assert len(explained.statements) > 15
    allowed = {"GET usage/": A_YEAR_OF_THE_ACCOUNT}
    too_much = {str(step) for step in explained.steps if step.rows > allowed.get(step.label, MOST_READ)}
    assert not too_much, "\n".join(sorted(too_much))
