"""Credits over HTTP: what members see and may change, and what nobody else finds."""

from __future__ import annotations

from uuid import uuid4

import pytest

from automation.contrib.credits.models import Billing, Transfer
from automation.runs import lifecycle
from pause_manager.models import ControlEvent
from tests.support.api_users import AUTOMATION, OPERATE, RUNS, VIEW, client_of, make_user
from tests.support.credit_books import CREDIT, assert_sound, balance, budget_of, funded_site, price_of
from tests.support.factories import OPERATOR, drain, make_run

pytestmark = pytest.mark.django_db(transaction=True)

CREDITS = "/api/v1/credits/"
SEE, MANAGE = "view_transfer", "manage_credits"


@pytest.fixture
def site():
    return funded_site(100, "acme")


@pytest.fixture
def other():
    return funded_site(7, "other")


@pytest.fixture
def member(site):
    return client_of(make_user("mia", site, VIEW, OPERATE, SEE))


@pytest.fixture
def manager(site):
    return client_of(make_user("max", site, VIEW, OPERATE, SEE, MANAGE))


@pytest.mark.req("A-36")
def test_a_member_sees_the_credits_of_their_account_and_of_no_other(member, site, other):
    [found] = member.get(f"{CREDITS}accounts/").json()

    assert (found["name"], found["balance"], found["available"]) == ("Account of acme", "100.000", "100.000")
    assert member.get(f"{CREDITS}accounts/{site.account_id}/").json() == found
    for missing in (other.account_id, 10**9, "x"):
        response = member.get(f"{CREDITS}accounts/{missing}/")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "accounts/"),
        ("get", "accounts/{account}/"),
        ("patch", "accounts/{account}/"),
        ("post", "accounts/{account}/top-ups/"),
        ("get", "transfers/"),
        ("post", "transfers/{transfer}/corrections/"),
        ("get", "usage/"),
        ("get", "sites/acme/budget/"),
        ("patch", "sites/acme/budget/"),
        ("get", "prices/"),
        ("get", "runs/{run}/"),
        ("patch", "runs/{run}/"),
    ],
)
def test_nothing_is_open_without_its_permission(site, method, path):
    run = make_run(site=site)
    names = {"account": site.account_id, "transfer": Transfer.objects.latest("pk").pk, "run": run.pk}
    address = CREDITS + path.format(**names)
    needed = SEE if method == "get" else MANAGE
    without = [VIEW, OPERATE, *({SEE, MANAGE} - {needed})]

    assert getattr(client_of(None), method)(address).status_code in (401, 403)
    refused = getattr(client_of(make_user("nora", site, *without)), method)(address, {} if method != "get" else None)

    assert refused.status_code == 403
    assert f"credits.{needed}" in refused.json()["message"]


def test_a_top_up_is_made_once_for_its_key(manager, site):
    address = f"{CREDITS}accounts/{site.account_id}/top-ups/"
    given = {"credits": "2.5", "key": "invoice-7", "reason": "bank transfer"}

    first, again = manager.post(address, given), manager.post(address, given)
    other = manager.post(address, {**given, "credits": "3"})

    assert first.json() == again.json()
    assert first.json()["amount"] == 2_500
    assert (other.status_code, other.json()["code"]) == (409, "booking_key_reused")
    assert balance(site) == 102_500
    event = ControlEvent.objects.filter(action="credits_topped_up").latest("pk")
    assert (event.actor, event.reason, event.details["credits"]) == ("user:max", "bank transfer", "2.5")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"credits": "0", "key": "k"}, "expected more than 0 credits"),
        ({"credits": "-1", "key": "k"}, "expected more than 0 credits"),
        ({"credits": "1.2345", "key": "k"}, "3 decimal places"),
        ({"credits": "9999999999", "key": "k"}, "expected at most 1,000,000,000 credits"),
        ({"credits": "many", "key": "k"}, "valid number"),
        ({"credits": "1"}, "key"),
        ({"credits": "1", "key": "k", "amount": 1}, "Unknown"),
    ],
)
def test_a_wrong_top_up_is_refused_with_what_is_expected(manager, site, given, told):
    response = manager.post(f"{CREDITS}accounts/{site.account_id}/top-ups/", given)

    assert response.status_code == 400
    assert told in response.json()["message"]
    assert balance(site) == 100 * CREDIT


@pytest.mark.req("A-36")
def test_another_accounts_credits_cannot_be_changed(manager, other):
    theirs = Transfer.objects.filter(account_id=other.account_id).get()
    given = {"credits": "5", "key": "k", "reason": "mine"}

    for response in (
        manager.post(f"{CREDITS}accounts/{other.account_id}/top-ups/", given),
        manager.post(f"{CREDITS}transfers/{theirs.pk}/corrections/", given),
        manager.patch(f"{CREDITS}accounts/{other.account_id}/", {"overdraft": "5"}),
        manager.patch(f"{CREDITS}sites/other/budget/", {"monthly": "5"}),
    ):
        assert response.status_code == 404

    assert balance(other) == 7 * CREDIT


def test_a_correction_is_a_booking_that_names_the_one_it_corrects(manager, site):
    paid = Transfer.objects.get(account_id=site.account_id)
    address = f"{CREDITS}transfers/{paid.pk}/corrections/"

    made = manager.post(address, {"credits": "-20", "key": "typo", "reason": "typed 100 for 80"}).json()
    manager.post(address, {"credits": "-20", "key": "typo", "reason": "typed 100 for 80"})

    assert (made["kind"], made["amount"], made["corrects"]) == ("correction", -20_000, paid.pk)
    assert balance(site) == 80 * CREDIT
    assert_sound(site)


def test_the_rules_of_an_account_are_changed_and_told(manager, site):
    address = f"{CREDITS}accounts/{site.account_id}/"

    found = manager.patch(address, {"overdraft": "5", "on_top_up": "resume", "max_credits_per_run": "2"}).json()

    assert (found["overdraft"], found["on_top_up"], found["available"]) == ("5.000", "resume", "105.000")
    assert ControlEvent.objects.filter(action="changed", scope=f"account:{site.account_id}").get().after == {
        "overdraft": 5_000,
        "on_top_up": "resume",
        "max_credits_per_run": 2_000,
    }
    assert manager.patch(address, {"on_top_up": "maybe"}).status_code == 400
    assert Billing.objects.get(pk=site.account_id).on_top_up == "resume"


def test_usage_is_added_up_by_month_site_stage_and_run(member, site, other):
    price_of("numbers", "echo")
    run = drain(make_run(items=10, site=site))
    Billing.objects.filter(pk=other.account_id).update(overdraft=100 * CREDIT)
    drain(make_run(items=3, site=other))

    for by, name in (("site", "acme"), ("stage", "echo"), ("run", str(run.pk))):
        assert member.get(f"{CREDITS}usage/?by={by}").json() == [{"name": name, "items": 10, "credits": "10.000"}]
    assert len(member.get(f"{CREDITS}usage/").json()) == 1
    assert member.get(f"{CREDITS}usage/?until=2001-01-01").json() == []
    assert member.get(f"{CREDITS}usage/?site=other").status_code == 404
    assert member.get(f"{CREDITS}usage/?account={other.account_id}").json() == []


def test_bookings_are_listed_newest_first_by_pages(member, site, other):
    price_of("numbers", "echo")
    run = drain(make_run(items=10, site=site))

    found, address = [], f"{CREDITS}transfers/?limit=1"
    while address:
        answer = member.get(address).json()
        found += answer["results"]
        address = answer["next"]
    charges = member.get(f"{CREDITS}transfers/?kind=charge&run_id={run.pk}").json()["results"]

    kinds = [one["kind"] for one in found]
    assert kinds[-2:] == ["reserve", "top_up"]
    assert set(kinds[:-2]) == {"charge"}
    assert {one["account_id"] for one in found} == {site.account_id}
    assert sum(one["amount"] for one in charges) == -10 * CREDIT


def test_a_site_budget_shows_what_its_functions_have_used(manager, site):
    budget_of(site, monthly=50 * CREDIT, shares={"echo": 60})
    price_of("numbers", "echo")
    drain(make_run(items=4, site=site))

    found = manager.get(f"{CREDITS}sites/acme/budget/").json()
    changed = manager.patch(f"{CREDITS}sites/acme/budget/", {"shares": {"echo": 70, "rest": 30}}).json()
    wrong = manager.patch(f"{CREDITS}sites/acme/budget/", {"shares": {"echo": 70, "rest": 31}})

    assert (found["monthly"], found["shares"], found["used"]) == ("50.000", {"echo": 60}, {"echo": "4.000"})
    assert changed["shares"] == {"echo": 70, "rest": 30}
    assert wrong.status_code == 400
    assert "expected at most 100 percent in all, got: 101" in wrong.json()["message"]


@pytest.mark.req("A-28")
def test_the_default_split_is_that_of_the_content_pipeline(member):
    found = member.get(f"{CREDITS}sites/acme/budget/").json()

    assert found["shares"] == {"clusters": 15, "ideas": 10, "content": 40, "prompts": 5, "images": 30}


@pytest.mark.req("A-27")
def test_the_limit_of_a_run_is_raised_and_the_run_resumed(manager, site):
    Billing.objects.update(max_credits_per_run=3 * CREDIT)
    price_of("scripted", "scripted")
    run = drain(make_run("scripted", items=5, site=site))
    address = f"{CREDITS}runs/{run.pk}/"
    assert manager.get(address).json()["used"] == "3.000"
    assert manager.post(f"{RUNS}{run.pk}/resume/").status_code == 409

    assert manager.patch(address, {"limit": "9"}).json()["limit"] == "9.000"
    assert manager.post(f"{RUNS}{run.pk}/resume/").status_code == 200

    assert drain(run).lifecycle == "completed"
    assert manager.get(address).json()["stages"] == [{"stage": "scripted", "items": 5, "charged": "5.000"}]


def test_a_run_without_prices_has_no_limit_to_change(manager, site):
    run = make_run(site=site)

    response = manager.patch(f"{CREDITS}runs/{run.pk}/", {"limit": "9"})

    assert (response.status_code, response.json()["code"]) == (409, "run_has_no_prices")
    assert manager.patch(f"{CREDITS}runs/{uuid4()}/", {"limit": "9"}).status_code == 404


@pytest.mark.req("A-25")
def test_an_estimate_says_what_is_needed_and_whether_it_is_there(member):
    price_of("numbers", "echo")
    address = f"{AUTOMATION}estimate/?site_id=acme&pipeline=numbers"

    enough, short = member.get(f"{address}&items=50").json(), member.get(f"{address}&items=100").json()

    assert (float(enough["needed"]), float(enough["balance"]), enough["sufficient"]) == (60, 100, True)
    assert (float(short["needed"]), short["sufficient"]) == (120, False)


@pytest.mark.req("A-24")
def test_a_start_that_is_not_covered_is_refused_with_the_figures(member, site):
    price_of("numbers", "echo")
    items = [{"n": n} for n in range(100)]

    response = member.post(RUNS, {"pipeline": "numbers", "site": "acme", "items": items})

    assert (response.status_code, response.json()["code"]) == (409, "credits_short")
    told = response.json()
    assert (float(told["needed"]), float(told["balance"]), told["sufficient"]) == (120, 100, False)
    run = make_run(items=items, site=site, start=False)
    assert member.post(f"{RUNS}{run.pk}/start/").json()["code"] == "credits_short"
    lifecycle.cancel(run.pk, actor=OPERATOR)


def test_prices_are_listed_as_they_are_now(member):
    price_of("numbers", "echo", 1_500, cost=3)

    [found] = member.get(f"{CREDITS}prices/").json()

    assert (found["stage"], found["charge"]) == ("echo", "1.500")
    assert "cost" not in found, "what the provider takes is not the customer's business"
