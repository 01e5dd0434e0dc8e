"""A run stops at the first item that it cannot pay for, says so, and goes on from there by the stated policy."""

from __future__ import annotations

import pytest

from automation import gate, leases
from automation.contrib.credits import allowance, ledger, settling
from automation.contrib.credits.models import Billing, Grant, RunCredits, StagePrice, Transfer
from automation.errors import TransitionRefused
from automation.models import AutomationRun, Lifecycle, Site
from automation.runs import lifecycle
from pause_manager.models import ControlEvent, Hold
from tests.support.credit_books import CREDIT, assert_sound, balance, budget_of, charged, funded_site, price_of, top_up
from tests.support.factories import OPERATOR, claim, drain, events, leased, make_run, outputs, run_loop, stage_of
from tests.support.pipelines import scripted

pytestmark = pytest.mark.django_db(transaction=True)


def short_run(pipeline: str = "scripted", stage: str = "scripted", *, affords: int, items: int = 10) -> AutomationRun:
    """A run that was covered at its start, and whose account then lost the most of it: it affords so many items."""
    site = funded_site(2 * items)
    price_of(pipeline, stage)
    run = make_run(pipeline, items=items, site=site)
    change_to(site, affords * CREDIT)
    return run


def change_to(site: Site, thousandths: int) -> None:
    """Leave the account so much, by a correction."""
    transfer = Transfer.objects.filter(kind="top_up").latest("pk")
    off = thousandths - balance(site)
    ledger.correct(transfer, off, key=f"to {thousandths} from {balance(site)}", actor=OPERATOR, reason="a test")


def again(run: AutomationRun) -> AutomationRun:
    return AutomationRun.objects.get(pk=run.pk)


@pytest.mark.req("A-26")
@pytest.mark.req("A-29")
@pytest.mark.parametrize("pipeline", ["scripted", "buffered", "async-scripted"])
def test_a_run_stops_at_the_item_that_it_cannot_pay_for_and_goes_on_from_there(pipeline):
    run = short_run(pipeline, pipeline, affords=4)
    asked = []

    with scripted(lambda item, ctx: asked.append(item["n"])):
        drain(run)

        assert asked == [1, 2, 3, 4]
        assert charged(run) == 4 * CREDIT
        assert balance(run.site) == 0
        reason = gate.explain(again(run))[0]
        assert reason.code == "budget"
        assert "needs 1 credits for the next item of" in reason.sentence
        assert "0 are available to it" in reason.sentence

        top_up(run.site.account, 6, key="more")
        settling.sweep()
        assert Hold.objects.active().count() == 1, "the policy is to ask"
        lifecycle.resume(run.pk, actor=OPERATOR)
        drain(run)

    assert asked == list(range(1, 11))
    assert again(run).lifecycle == Lifecycle.COMPLETED
    assert charged(run) == 10 * CREDIT
    assert_sound(run.site)


@pytest.mark.req("A-29")
def test_a_resume_without_credits_is_refused_with_the_figures():
    run = short_run(affords=2)
    drain(run)

    with pytest.raises(TransitionRefused, match="needs 1 credits for the next item of scripted, and 0 are available"):
        lifecycle.resume(run.pk, actor=OPERATOR)

    assert Hold.objects.active().get().kind == Hold.Kind.BUDGET


@pytest.mark.req("A-29")
def test_a_top_up_resumes_by_itself_where_the_policy_says_so():
    run = short_run(affords=2)
    Billing.objects.update(on_top_up="resume")
    drain(run)
    settling.sweep()
    assert Hold.objects.active().exists(), "there is nothing to resume with yet"

    top_up(run.site.account, 8, key="more")
    settling.sweep()

    assert events(run, "hold_released")[0].actor == "credits"
    assert drain(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("A-27")
def test_a_run_stops_at_its_own_limit():
    site = funded_site(100, max_credits_per_run=3 * CREDIT)
    price_of("scripted", "scripted")
    run = drain(make_run("scripted", items=10, site=site))

    assert charged(run) == 3 * CREDIT
    assert "0 are left of the most that this run may use" in gate.explain(run)[0].sentence

    RunCredits.objects.update(limit=100 * CREDIT)
    lifecycle.resume(run.pk, actor=OPERATOR)
    assert drain(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("A-28")
def test_a_function_uses_its_share_of_the_sites_month_and_no_more():
    site = funded_site(1_000)
    budget_of(site, monthly=10 * CREDIT, shares={"scripted": 40, "other": 60})
    price_of("scripted", "scripted")

    run = drain(make_run("scripted", items=10, site=site))

    assert charged(run) == 4 * CREDIT
    assert "0 are left of its site's budget for scripted this month" in gate.explain(run)[0].sentence


@pytest.mark.req("A-28")
def test_without_a_split_a_function_may_use_all_of_it():
    site = funded_site(1_000)
    budget_of(site, monthly=7 * CREDIT, is_split=False)
    price_of("scripted", "scripted")

    run = drain(make_run("scripted", items=10, site=site))

    assert charged(run) == 7 * CREDIT
    assert "0 are left of its site's budget for this month" in gate.explain(run)[0].sentence


def test_an_overdraft_is_used_up_to_its_end():
    site = funded_site(0, overdraft=12 * CREDIT)
    price_of("scripted", "scripted")
    run = make_run("scripted", items=10, site=site)
    Billing.objects.update(overdraft=5 * CREDIT)

    drain(run)

    assert balance(site) == -5 * CREDIT


def test_failed_items_leave_their_credits_to_others():
    """Three of nine fail. The last one could have succeeded, so it is begun with the seventh credit alone."""
    run = short_run("failing", "failing", affords=7, items=9)

    drain(run)

    assert again(run).lifecycle == Lifecycle.COMPLETED
    assert balance(run.site) == CREDIT


def test_two_loops_do_not_draw_the_same_credits():
    run = short_run("few", "few", affords=1, items=4)
    price = StagePrice.objects.get()
    first, second = leased(run, "a"), leased(run, "b")

    assert allowance.draw(price, first, 5).passes == 1
    permit = allowance.draw(price, second, 5)

    assert (permit.passes, permit.stop) == (0, None), "the first one's item may fail, and leave the credit"
    assert not Hold.objects.active().exists()


def test_what_a_lost_loop_drew_is_drawn_again():
    run = short_run("few", "few", affords=1, items=4)
    price = StagePrice.objects.get()
    first = leased(run, "a")
    assert allowance.draw(price, first, 1).passes == 1

    leases.release(first)
    second = claim(run, "b")
    assert second is not None

    assert allowance.draw(price, second, 1).passes == 1
    assert Grant.objects.get().token == second.token


def test_work_whose_holder_draws_nothing_is_parked_by_the_sweep():
    run = short_run("remote", "remote", affords=0)

    settling.sweep()

    assert gate.explain(again(run))[0].code == "budget"


def test_a_run_that_is_short_is_parked_once_however_often_it_is_looked_at():
    run = short_run(affords=2)
    drain(run)

    settling.sweep()
    run_loop(run)

    assert Hold.objects.count() == 1
    assert len(outputs(run)) == 2
    assert stage_of(run).lifecycle == Lifecycle.RUNNING


def test_a_low_balance_is_told_once_until_it_has_risen():
    site = funded_site(10, low_balance=5 * CREDIT)

    def told() -> int:
        return ControlEvent.objects.filter(action="credits_low").count()

    settling.sweep()
    assert told() == 0

    change_to(site, 4 * CREDIT)
    settling.sweep()
    settling.sweep()
    assert told() == 1

    top_up(site.account, 5, key="more")
    settling.sweep()
    change_to(site, 1 * CREDIT)
    settling.sweep()
    assert told() == 2
