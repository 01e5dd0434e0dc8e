"""What a checkpoint commits is charged with it: once for each item, and nothing for what was not committed."""

from __future__ import annotations

import pytest
from django.db import Error, IntegrityError, connection, transaction

from automation import leases
from automation.contrib.credits import ledger, settling
from automation.contrib.credits.ledger import Side
from automation.contrib.credits.models import Line, Price, Transfer, Usage
from automation.errors import LeaseLost
from automation.items import store
from automation.leases import checkpoint
from automation.leases.checkpoint import Progress
from automation.models import WorkSlice
from tests.support.credit_books import CREDIT, assert_sound, balance, charged, funded_site, in_book, price_of
from tests.support.factories import OPERATOR, drain, expire_leases, leased, make_run, outputs, settle, stage_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.req("A-26")
def test_each_item_that_is_done_is_charged_once():
    site = funded_site(100)
    price_of("numbers", "echo", 2 * CREDIT)

    run = drain(make_run(items=10, site=site))

    assert charged(run) == 10 * 2 * CREDIT
    keys = Line.objects.filter(kind="charge", book="available").values_list("item_key", flat=True)
    assert sorted(keys) == [f"{n:03d}" for n in range(10)]
    assert balance(site) == 80 * CREDIT
    assert_sound(site)


@pytest.mark.req("A-26")
def test_an_item_that_fails_costs_the_customer_nothing_and_what_its_tries_cost_is_known():
    site = funded_site(100)
    price_of("failing", "failing", CREDIT, cost=7)

    run = settle(make_run("failing", items=9, site=site))

    assert len(outputs(run)) == 6
    assert charged(run) == 6 * CREDIT
    # Six items at one try, three at three tries.
    assert in_book(Line.Book.EXPENSE) == (6 + 3 * 3) * 7
    assert_sound(site)


def test_a_price_may_charge_failed_items_too():
    site = funded_site(100)
    price_of("failing", "failing", CREDIT, charges_failed=True)

    run = settle(make_run("failing", items=9, site=site))

    assert charged(run) == 9 * CREDIT


def test_a_group_is_charged_as_one_and_its_items_each():
    site = funded_site(1_000)
    price_of("grouped", "sum", CREDIT, unit="group")
    price_of("grouped", "echo", CREDIT, unit="item")

    run = drain(make_run("grouped", items=10, site=site))

    groups = len(outputs(run, "sum"))
    assert groups == 4  # of 15 items, in fours
    assert charged(run) == 2 * groups * CREDIT


def test_items_of_a_group_stage_may_be_charged_each():
    site = funded_site(1_000)
    price_of("grouped", "sum", CREDIT, unit="item")

    run = drain(make_run("grouped", items=10, site=site))

    assert charged(run) == 15 * CREDIT


def test_words_are_counted_in_the_outputs():
    site = funded_site(1_000)
    price_of("written", "write", CREDIT, unit="words", text_field="text")
    texts = [{"text": "one two three"}, {"text": " a\n b "}, {"text": ""}]

    run = drain(make_run("written", items=texts, site=site))

    # 1 credit for 100 words: 3 words are 30 thousandths, 2 are 20.
    assert charged(run) == 50
    assert_sound(site)


def test_all_texts_of_an_output_are_counted_where_no_field_is_named():
    site = funded_site(1_000)
    price_of("written", "write", CREDIT, unit="words")

    run = drain(make_run("written", items=[{"text": "one two", "title": "three"}], site=site))

    assert charged(run) == 30


def test_both_branches_of_a_join_are_charged():
    site = funded_site(100)
    price_of("diamond", "join", CREDIT)

    run = drain(make_run("diamond", items=5, site=site))

    assert charged(run) == 10 * CREDIT
    assert_sound(site)


def test_a_stage_without_a_price_leaves_no_trace():
    site = funded_site(0)
    price_of("numbers", "echo")

    drain(make_run("fan-out", items=10, site=site))

    assert not Transfer.objects.exists()
    assert not Usage.objects.exists()


def test_a_lost_lease_charges_nothing():
    site = funded_site(100)
    price_of("scripted", "scripted")
    run = make_run("scripted", items=3, site=site)
    work = leased(run)
    expire_leases(run)
    leases.reap()

    rows = store.output_rows("000", [{"n": 1}])
    with pytest.raises(LeaseLost):
        checkpoint.commit(work, Progress(cursor="000", processed=1, outputs=rows))

    assert charged(run) == 0
    again = leased(run, "b")
    checkpoint.commit(again, Progress(cursor="000", processed=1, outputs=rows))
    with pytest.raises(LeaseLost):
        checkpoint.commit(work, Progress(cursor="000", processed=1, outputs=rows))
    assert charged(run) == CREDIT


def test_an_item_that_is_done_again_is_charged_once_and_those_with_it_as_well():
    site = funded_site(100)
    price_of("scripted", "scripted", CREDIT, cost=7)
    run = make_run("scripted", items=3, site=site)
    work = leased(run)
    checkpoint.commit(work, Progress(cursor="000", processed=1))

    WorkSlice.objects.filter(pk=work.slice_id).update(cursor="", processed=0)  # as from a backup
    work.cursor = ""
    checkpoint.commit(work, Progress(cursor="002", processed=3))

    assert charged(run) == 3 * CREDIT
    assert in_book(Line.Book.EXPENSE) == 3 * 7
    keys = Line.objects.filter(kind="charge", book="available").values_list("item_key", flat=True)
    assert sorted(keys) == ["000", "001", "002"]
    assert_sound(site)


def test_what_is_rolled_back_is_not_charged():
    site = funded_site(100)
    price_of("scripted", "scripted")
    run = make_run("scripted", items=3, site=site)
    work = leased(run)

    with transaction.atomic():
        rows = store.output_rows("000", [{"n": 1}])
        checkpoint.commit(work, Progress(cursor="000", processed=1, outputs=rows))
        transaction.set_rollback(True)

    assert charged(run) == 0
    assert not Usage.objects.exists()


def test_a_run_keeps_the_prices_of_its_start():
    site = funded_site(100)
    price_of("scripted", "scripted", CREDIT)
    run = make_run("scripted", items=3, site=site)

    Price.objects.update(charge=9 * CREDIT)
    drain(run)

    assert charged(run) == 3 * CREDIT


def test_settled_runs_are_taken_from_the_funds_once():
    site = funded_site(100)
    price_of("numbers", "echo", CREDIT)
    run = drain(make_run(items=10, site=site))

    assert settling.settle_ended() == 1
    assert settling.settle_ended() == 0
    assert not settling.settle(run.pk)

    assert balance(site) == 90 * CREDIT
    site.account.billing.refresh_from_db()
    assert site.account.billing.funds == 90 * CREDIT
    assert in_book(Line.Book.RESERVED) == 0
    assert_sound(site)


def test_what_is_booked_after_the_settlement_is_taken_by_the_next_sweep():
    site = funded_site(100)
    price_of("numbers", "echo", CREDIT)
    run = drain(make_run(items=10, site=site))
    settling.settle_ended()
    Usage.objects.create(
        account_id=site.account_id,
        site_id=site.pk,
        run_id=run.pk,
        stage_run_id=stage_of(run, "echo").pk,
        slice_id=77,
        stage="echo",
        function="echo",
        month="2026-11-01",
        items=1,
        charged=CREDIT,
    )
    assert balance(site) == 89 * CREDIT

    assert settling.take_late_usage() == 1
    assert settling.take_late_usage() == 0

    site.account.billing.refresh_from_db()
    assert site.account.billing.funds == balance(site) == 89 * CREDIT


class TestBooks:
    """The database keeps the books, whoever writes."""

    def test_a_transfer_must_add_up_to_zero(self):
        site = funded_site(1)

        sides = [Side("available", 5), Side("paid_in", -4)]
        with pytest.raises(IntegrityError, match="does not add up"):
            ledger.book("top_up", sides, account_id=site.account_id, actor=OPERATOR, key="x")

    def test_no_line_is_added_to_a_transfer_that_has_committed(self):
        site = funded_site(1)
        transfer = Transfer.objects.get()

        with pytest.raises(IntegrityError, match="in the transaction of their transfer only"):
            Line.objects.create(transfer=transfer, book="available", account_id=site.account_id, amount=0, kind="x")

    @pytest.mark.parametrize("table", ["credits_transfer", "credits_line"])
    @pytest.mark.parametrize("change", ["UPDATE {} SET account_id = 0", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
    def test_nothing_is_changed_or_removed(self, table, change):
        funded_site(1)

        with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change.format(table))

        assert Transfer.objects.count() == 1
        assert Line.objects.count() == 2
