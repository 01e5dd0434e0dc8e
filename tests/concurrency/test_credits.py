"""Two of everything at once: top-ups, settlements, draws of the last credits, a top-up while a run is being parked."""

from __future__ import annotations

import contextlib
from functools import partial
from uuid import uuid4

import pytest
from django.db import connection

from automation.contrib.credits import allowance, ledger, settling
from automation.contrib.credits.errors import KeyReused
from automation.contrib.credits.models import Billing, StagePrice, Transfer
from automation.items import store, units
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.models import AutomationRun
from pause_manager.models import Hold
from tests.support.credit_books import CREDIT, assert_sound, balance, charged, funded_site, price_of
from tests.support.factories import OPERATOR, claim, drain, leased, make_run
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)


def pay(site, key: str, credits: int = 5):
    return ledger.top_up(site.account, credits * CREDIT, key=key, actor=OPERATOR)


@pytest.mark.parametrize("is_new_account", [True, False])
def test_two_top_ups_with_one_key_are_one_entry(is_new_account):
    site = funded_site(0 if is_new_account else 1)
    Billing.objects.filter(funds=0).delete()
    before = balance(site)

    first, second = race(lambda: pay(site, "a"), lambda: pay(site, "a"))

    assert first == second
    assert balance(site) == before + 5 * CREDIT
    assert_sound(site)


def test_two_top_ups_with_two_keys_are_two_entries():
    site = funded_site(0)

    race(lambda: pay(site, "a"), lambda: pay(site, "b"))

    assert balance(site) == 10 * CREDIT
    assert_sound(site)


def test_a_key_is_not_used_for_another_amount():
    site = funded_site(0)
    pay(site, "a")

    with pytest.raises(KeyReused):
        pay(site, "a", credits=6)

    assert balance(site) == 5 * CREDIT


def test_two_sweeps_settle_a_run_once():
    site = funded_site(20)
    price_of("numbers", "echo")
    run = drain(make_run(items=10, site=site))

    done = race(lambda: settling.settle(run.pk), lambda: settling.settle(run.pk))

    assert sorted(done) == [False, True]
    assert balance(site) == 10 * CREDIT
    assert Transfer.objects.filter(key__startswith=f"reservation:{run.pk}").count() == 2
    assert_sound(site)


def draw_and_do(run: AutomationRun, name: str) -> int:
    """A loop, as fast as it can, until it may not; how many items it did."""
    price = StagePrice.objects.get(run_id=run.pk)
    stage_run = run.stages.get(slug="few")
    done = 0
    while (work := claim(run, name, slug="few")) is not None:
        if not allowance.draw(price, work, 3).passes:
            break
        unit = next(iter(units.units_of(work, stage_run)))
        rows = store.output_rows(unit.key, [{"n": 1}])
        done += checkpoint.commit(work, Progress(cursor=unit.last_key, processed=1, outputs=rows))
    return done


def short_run(items: int, affords: int) -> AutomationRun:
    site = funded_site(2 * items)
    price_of("few", "few")
    run = make_run("few", items=items, site=site)
    off = affords * CREDIT - balance(site)
    paid = Transfer.objects.get(kind="top_up", account_id=site.account_id)
    ledger.correct(paid, off, key=str(uuid4()), actor=OPERATOR, reason="a test")
    return run


def test_loops_that_race_for_the_last_credits_never_overdraw():
    run = short_run(items=30, affords=9)

    done = race(lambda: draw_and_do(run, "a"), lambda: draw_and_do(run, "b"))

    assert sum(done) == charged(run) // CREDIT <= 9
    assert balance(run.site) >= 0


def test_without_the_lock_they_would(monkeypatch):
    """The guard of the test before: two that look at the same moment both see the last credit."""
    run = short_run(items=30, affords=1)
    price = StagePrice.objects.get(run_id=run.pk)
    works = [leased(run, "a"), leased(run, "b")]
    monkeypatch.setattr(allowance, "_lock", lambda price: None)
    real = allowance._grant

    def late(*given) -> None:
        with connection.cursor() as cursor, contextlib.suppress(Exception):
            cursor.execute("SELECT pg_sleep(0.5)")
        real(*given)

    monkeypatch.setattr(allowance, "_grant", late)

    drawn = race(*(partial(allowance.draw, price, work, 1) for work in works))

    assert [permit.passes for permit in drawn] == [1, 1]


def test_a_top_up_while_a_run_is_parked_is_never_overlooked():
    """Whichever commits first: the run is not held, or it is held and the sweep resumes it."""
    for _ in range(5):
        run = short_run(items=5, affords=0)
        Billing.objects.filter(pk=run.account_id).update(on_top_up="resume")
        price = StagePrice.objects.get(run_id=run.pk)

        race(partial(allowance.park, price), partial(pay, run.site, "more", credits=10))
        settling.sweep()

        assert not Hold.objects.active().filter(scope=run.scope).exists()
