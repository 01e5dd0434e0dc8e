"""The page of credits: figures, bookings, files, and what one who manages credits changes from it."""

from __future__ import annotations

import csv
import io

import pytest
from django.test import Client

from automation.contrib.credits.models import Billing, Transfer
from automation.models import Site
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.credit_books import CREDIT, assert_sound, balance, funded_site, price_of
from tests.support.factories import drain, make_run

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/credits/"
SEE, MANAGE = "view_transfer", "manage_credits"


@pytest.fixture
def site() -> Site:
    return funded_site(100, "acme")


@pytest.fixture
def manager(site: Site) -> Client:
    return signed_in(site, "max", VIEW, OPERATE, SEE, MANAGE)


def signed_in(site: Site, name: str, *permissions: str) -> Client:
    client = Client()
    client.force_login(make_user(name, site, *permissions))
    return client


def used(site: Site, items: int = 4) -> None:
    price_of("numbers", "echo")
    drain(make_run("numbers", site=site, items=items))


def test_it_shows_what_an_account_has_and_has_used(manager: Client, site: Site) -> None:
    used(site)
    spent = 100 * CREDIT - balance(site)
    assert spent > 0

    page = manager.get(URL).content.decode()

    assert f'<dd class="value">{balance(site) // CREDIT}</dd>' in page
    assert f"Used: {spent // CREDIT} credits" in page
    assert page.count("<rect ") == 1
    by_run = manager.get(URL, {"by": "run"}).content.decode()
    assert 'href="/runs/' in by_run


def test_the_file_has_what_the_filters_let_through(manager: Client, site: Site) -> None:
    used(site)
    account = str(site.account_id)

    answer = manager.get(f"{URL}usage/", {"account": account, "by": "stage"})

    [row] = csv.DictReader(io.StringIO(answer.content.decode()))
    assert row["stage"] == "echo"
    assert float(row["credits"]) == (100 * CREDIT - balance(site)) / CREDIT
    nothing = manager.get(f"{URL}usage/", {"account": account, "until": "2020-01"}).content.decode()
    assert nothing.strip() == "month,items,credits"
    wrong = manager.get(f"{URL}usage/", {"account": account, "by": "moon"})
    assert wrong.status_code == 400
    assert "by: expected one of month, site, stage, run, got: moon." in wrong.content.decode()


def test_credits_are_added_once_for_a_key(manager: Client, site: Site) -> None:
    given = {
        "do": "top_up",
        "account": str(site.account_id),
        "credits": "1,000.5",
        "key": "invoice 7",
        "reason": "paid",
    }

    for _ in range(2):
        answer = manager.post(URL, given)
        assert answer.status_code == 200, answer.content

    assert balance(site) == 1_100_500
    transfer = Transfer.objects.get(key__endswith="invoice 7")
    assert (transfer.actor, transfer.reason) == ("user:max", "paid")
    assert_sound(site)


@pytest.mark.parametrize(
    ("credits", "sentence"),
    [
        ("", "Cannot do that: the number of credits is missing."),
        ("many", "expected a number of credits, got: 'many'."),
        ("0", "expected more than 0 credits"),
        ("0.0001", "expected credits with at most three decimals"),
    ],
)
def test_a_wrong_amount_is_refused(manager: Client, site: Site, credits: str, sentence: str) -> None:
    answer = manager.post(URL, {"do": "top_up", "account": str(site.account_id), "credits": credits, "key": "k"})

    assert answer.status_code == 409
    assert sentence in answer.json()["refused"]
    assert balance(site) == 100 * CREDIT


def test_a_booking_is_corrected_by_another(manager: Client, site: Site) -> None:
    first = Transfer.objects.get(kind="top_up")
    given = {"do": "correct", "account": str(site.account_id), "transfer": str(first.pk), "credits": "-30", "key": "c"}

    assert manager.post(URL, given).json()["refused"] == "Cannot do that: the reason is missing."
    assert manager.post(URL, {**given, "reason": "paid twice"}).status_code == 200

    assert balance(site) == 70 * CREDIT
    page = manager.get(URL).content.decode()
    assert "paid twice" in page
    assert "-30" in page
    assert_sound(site)


def test_rules_are_changed(manager: Client, site: Site) -> None:
    given = {"do": "change", "account": str(site.account_id), "overdraft": "5", "low_balance": "20"}

    assert manager.post(URL, {**given, "on_top_up": "later"}).status_code == 409
    assert manager.post(URL, {**given, "on_top_up": "resume", "overdraft": "-1"}).status_code == 409
    assert manager.post(URL, {**given, "on_top_up": "resume", "max_credits_per_run": "12.5"}).status_code == 200

    rules = Billing.objects.get(pk=site.account_id)
    assert (rules.overdraft, rules.low_balance, rules.max_credits_per_run) == (5_000, 20_000, 12_500)
    assert rules.on_top_up == "resume"


def test_others_see_nothing_of_it(manager: Client, site: Site) -> None:
    theirs = funded_site(7, "other")
    viewer = signed_in(site, "vera", VIEW, SEE)
    account = str(theirs.account_id)

    assert "Account of other" not in manager.get(URL, {"account": account}).content.decode()
    assert manager.get(f"{URL}usage/", {"account": account}).status_code == 404
    answer = manager.post(URL, {"do": "top_up", "account": account, "credits": "5", "key": "k"})
    assert answer.status_code == 409
    assert "you do not have access to it" in answer.json()["refused"]
    assert balance(theirs) == 7 * CREDIT
    page = viewer.get(URL).content.decode()
    assert "Account of acme" in page
    assert "data-ask" not in page.partition('id="content"')[2]
    own = {"do": "top_up", "account": str(site.account_id), "credits": "5", "key": "k"}
    assert viewer.post(URL, own).status_code == 403
    assert signed_in(site, "olga", VIEW, OPERATE).get(URL).status_code == 403
