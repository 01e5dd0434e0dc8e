"""A run that cannot be paid for does not start: it is refused with the figures, or held when its turn comes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from automation import gate
from automation.contrib.credits import funds, ledger, settling
from automation.contrib.credits.errors import CreditsShort
from automation.contrib.credits.models import Line, RunCredits, StagePrice, Transfer
from automation.models import AutomationRun, Lane, Lifecycle
from automation.runs import creation, lanes, lifecycle, reconciler
from pause_manager.models import Hold
from tests.support.credit_books import CREDIT, assert_sound, balance, budget_of, funded_site, in_book, price_of, top_up
from tests.support.factories import OPERATOR, drain, make_run, make_site, numbers, outputs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.req("A-24")
@pytest.mark.req("A-25")
def test_a_start_needs_the_estimate_with_its_margin():
    site = funded_site(11)
    price_of("numbers", "echo")

    with pytest.raises(CreditsShort) as refused:
        make_run(items=10, site=site)

    assert refused.value.figures == {"needed": Decimal(12), "balance": Decimal(11), "sufficient": False}
    assert "it needs 12 credits and 11 are available" in str(refused.value)
    assert not AutomationRun.objects.exists()
    top_up(site.account, 1, key="more")
    assert drain(make_run(items=10, site=site)).lifecycle == Lifecycle.COMPLETED


def test_an_account_that_never_paid_starts_nothing_that_has_a_price():
    price_of("numbers", "echo")
    site = make_site()

    with pytest.raises(CreditsShort):
        make_run(items=1, site=site)

    assert drain(make_run("fan-out", items=1, site=site)).lifecycle == Lifecycle.COMPLETED


def test_a_created_run_is_refused_when_its_start_is_asked_for():
    site = funded_site(1)
    price_of("numbers", "echo")
    run = make_run(items=10, site=site, start=False)

    with pytest.raises(CreditsShort):
        lifecycle.start_run(run.pk, actor=OPERATOR)

    run.refresh_from_db()
    assert (run.lifecycle, run.start_requested_at) == (Lifecycle.PENDING, None)


def test_what_is_set_aside_for_one_run_is_not_there_for_another():
    site = funded_site(20)
    price_of("scripted", "scripted")
    make_run("scripted", items=10, site=site)

    assert (balance(site), funds.of_account(site.account_id).available) == (20 * CREDIT, 8 * CREDIT)
    with pytest.raises(CreditsShort):
        make_run("scripted", items=10, site=site)


@pytest.mark.req("A-25")
def test_what_was_set_aside_and_not_used_comes_back_once():
    site = funded_site(20)
    price_of("scripted", "scripted")
    run = make_run("scripted", items=10, site=site)
    assert in_book(Line.Book.RESERVED) == 12 * CREDIT

    drain(run)
    settling.sweep()
    settling.sweep()

    assert in_book(Line.Book.RESERVED) == 0
    assert funds.of_account(site.account_id) == funds.Funds(10 * CREDIT, 0, 0)
    keys = Transfer.objects.filter(key__startswith="reservation:").order_by("pk").values_list("key", flat=True)
    assert list(keys) == [f"reservation:{run.pk}:reserve", f"reservation:{run.pk}:settle"]
    assert_sound(site)


def test_a_cancelled_run_gives_back_what_it_set_aside():
    site = funded_site(20)
    price_of("scripted", "scripted")
    run = make_run("scripted", items=10, site=site)
    lifecycle.cancel(run.pk, actor=OPERATOR)

    settling.sweep()

    assert funds.of_account(site.account_id) == funds.Funds(20 * CREDIT, 0, 0)
    assert_sound(site)


def test_a_run_whose_turn_comes_when_the_credits_have_gone_is_held_and_resumed_when_they_are_back():
    site = funded_site(24)
    Lane.objects.filter(name=site.slug).update(width=1)
    price_of("numbers", "echo")
    first, second = make_run(items=10, site=site), make_run(items=10, site=site, priority=4)
    third = make_run("fan-out", items=1, site=site, priority=5)
    ledger.correct(Transfer.objects.get(kind="top_up"), -10 * CREDIT, key="a", actor=OPERATOR, reason="paid back")

    drain(first)
    settling.sweep()
    reconciler.reconcile()

    second.refresh_from_db()
    assert second.lifecycle == Lifecycle.PENDING
    reason = gate.explain(second)[0]
    assert reason.code == "budget"
    assert "it needs 12 credits to start and 4 are available" in reason.sentence
    refused = lifecycle.resume_runs([second.pk], actor=OPERATOR).refused
    assert "it needs 12 credits to start and 4 are available" in str(refused[0])
    top_up(site.account, 10, key="back")
    lifecycle.resume(second.pk, actor=OPERATOR)
    assert drain(second).lifecycle == Lifecycle.COMPLETED
    assert drain(third).lifecycle == Lifecycle.COMPLETED


def test_later_stages_are_estimated_from_earlier_runs():
    site = funded_site(1_000)
    drain(make_run("fan-out", items=8, site=site))  # 12 outputs of 8 items
    price_of("fan-out", "echo")

    run = make_run("fan-out", items=8, site=site)

    row = RunCredits.objects.get(pk=run.pk)
    assert (row.estimate, row.reserved) == (12 * CREDIT, 14_400)


def test_the_price_in_force_is_the_newest_that_has_begun():
    site = funded_site(1_000)
    now = timezone.now()
    price_of("numbers", "echo", 1, valid_from=now - timedelta(days=30))
    current = price_of("numbers", "echo", 2, valid_from=now - timedelta(days=3))
    price_of("numbers", "echo", 3, valid_from=now + timedelta(days=3))

    run = make_run(site=site)

    assert StagePrice.objects.get(run_id=run.pk).price_id == current.pk


@pytest.mark.req("A-27")
def test_a_limit_for_a_run_caps_what_is_set_aside():
    site = funded_site(5, max_credits_per_run=4 * CREDIT)
    price_of("numbers", "echo")

    run = make_run(items=10, site=site)

    assert RunCredits.objects.get(pk=run.pk).reserved == 4 * CREDIT


def test_a_site_may_have_its_own_limit_for_a_run():
    site = funded_site(100, max_credits_per_run=4 * CREDIT)
    budget_of(site, max_credits_per_run=9 * CREDIT)
    price_of("numbers", "echo")

    assert RunCredits.objects.get(pk=make_run(items=10, site=site).pk).limit == 9 * CREDIT


def test_the_drawback_of_no_price_is_none():
    site = make_site()

    run = creation.create("numbers", site=site, items=numbers(3), actor=OPERATOR)
    lanes.fill(site.slug)

    assert len(outputs(drain(run))) == 3
    assert not Hold.objects.exists()
    assert not RunCredits.objects.exists()
