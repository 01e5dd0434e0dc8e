"""Credits & Billing in the admin, credits on the card, and the command."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from automation.contrib.credits.models import Billing, Price, RunCredits, Transfer
from backend.console.run import card
from backend.console.run.card import Rights
from tests.support.credit_books import CREDIT, assert_sound, balance, funded_site, price_of
from tests.support.factories import drain, make_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def page(name: str) -> str:
    return reverse(f"admin:credits_{name}")


@pytest.mark.req("A-38")
@pytest.mark.req("A-39")
def test_the_menu_has_credits_and_billing_and_its_pages_open(admin):
    site = funded_site(100)
    price_of("numbers", "echo")
    drain(make_run(site=site))

    assert "Credits &amp; Billing" in admin.get(reverse("admin:index")).content.decode()
    for name in ("price", "billing", "sitebudget", "transfer", "usage", "runcredits", "invoice"):
        assert admin.get(page(f"{name}_changelist")).status_code == 200, name
    for row in Transfer.objects.all():
        assert admin.get(reverse("admin:credits_transfer_change", args=[row.pk])).status_code == 200


@pytest.mark.req("A-38")
def test_the_menu_is_not_there_for_those_who_may_not(admin):
    client = Client()
    client.force_login(User.objects.create_user("staff", is_staff=True))

    assert "Credits &amp; Billing" not in client.get(reverse("admin:index")).content.decode()
    assert client.get(page("transfer_changelist")).status_code == 403


def test_two_clicks_on_one_page_add_credits_once(admin):
    site = funded_site(1)
    given = {"action": "add_credits", "_selected_action": [site.account_id], "credits": "2.5", "key": "page-1"}

    first = admin.post(page("billing_changelist"), given, follow=True)
    admin.post(page("billing_changelist"), given)
    wrong = admin.post(page("billing_changelist"), {**given, "credits": "x"}, follow=True)

    assert "has 3.5 credits" in first.content.decode()
    assert "expected a number of credits" in wrong.content.decode()
    assert balance(site) == 3_500
    assert_sound(site)


def test_a_price_is_checked_and_one_in_force_is_not_changed(admin):
    given = {"pipeline": "numbers", "stage": "eco", "unit": "item", "charge": 5, "cost": 0}
    when = {"valid_from_0": "2026-01-01", "valid_from_1": "00:00"}

    wrong = admin.post(page("price_add"), given | when)
    assert "Expected echo, got: eco." in wrong.content.decode() or "Expected one of echo" in wrong.content.decode()
    admin.post(page("price_add"), given | when | {"stage": "echo"})
    price = Price.objects.get()

    assert admin.post(reverse("admin:credits_price_change", args=[price.pk]), given | when).status_code == 403
    Price.objects.update(valid_from=timezone.now() + timedelta(days=1))
    assert admin.get(reverse("admin:credits_price_change", args=[price.pk])).status_code == 200


def test_an_export_has_no_formulas(admin):
    site = funded_site(1)
    paid = Transfer.objects.get()
    from automation.contrib.credits import ledger
    from tests.support.factories import OPERATOR

    ledger.correct(paid, -CREDIT, key="k", actor=OPERATOR, reason='=HYPERLINK("http://evil")')

    response = admin.post(
        page("transfer_changelist"),
        {"action": "export", "_selected_action": list(Transfer.objects.values_list("pk", flat=True))},
    )
    lines = b"".join(response).decode().splitlines()

    assert lines[0].startswith("id,created_at,kind")
    assert "'=HYPERLINK" in lines[1]
    assert f",{site.account_id},-1000," in lines[1]
    assert len(lines) == 3


def test_the_card_shows_credits_of_a_run_that_has_prices():
    site = funded_site(100)
    rights = Rights(operate=True, payloads=True)
    plain = make_run(site=site)
    assert card.context(plain, rights)["figures"] == []

    price_of("scripted", "scripted", 2_500)
    run = drain(make_run("scripted", items=4, site=site))

    assert card.context(run, rights)["figures"] == [("Credits", "10 of 12")]
    RunCredits.objects.filter(pk=run.pk).update(reserved=9 * CREDIT)
    assert card.context(run, rights)["figures"] == [("Credits", "10")]
    RunCredits.objects.filter(pk=run.pk).update(limit=15 * CREDIT)
    assert card.context(run, rights)["figures"] == [("Credits", "10 of 15")]


def test_the_card_offers_a_resume_under_a_budget_hold():
    site = funded_site(100, max_credits_per_run=2 * CREDIT)
    price_of("scripted", "scripted")
    run = drain(make_run("scripted", items=4, site=site))

    assert card.controls(run, may_operate=True).resume


def test_the_command_shows_adds_corrects_and_checks(capsys):
    site = funded_site(0, "acme")
    name = site.account.name

    call_command("credits", "top-up", name, "12.5", "--key", "a")
    call_command("credits", "top-up", name, "12.5", "--key", "a")
    call_command("credits", "correct", str(Transfer.objects.get().pk), "-2", "--key", "b", "--reason", "typo")
    call_command("credits", "show", "--json")
    call_command("credits", "check")

    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{name}: 12.5 credits, 0 of them set aside for runs"
    assert json.loads(said[3]) == {"account": name, "balance": "10.5", "reserved": "0", "available": "10.5"}
    assert said[4] == "Every balance is what the ledger says."
    Billing.objects.update(funds=1)
    with pytest.raises(SystemExit):
        call_command("credits", "check")
    assert "the balance is 0.001, the ledger says 10.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "--account", "nobody"], "Cannot find account 'nobody'"),
        (["top-up", "Account of acme", "many", "--key", "a"], "expected a number of credits"),
        (["top-up", "Account of acme", "0", "--key", "a"], "expected more than 0 credits"),
        (["correct", "99999", "1", "--key", "a", "--reason", "x"], "Cannot find booking 99999"),
        ([], "expected manage.py credits show, top-up, correct, invoice or check"),
    ],
)
def test_the_command_says_what_is_wrong(words, told):
    funded_site(0, "acme")

    with pytest.raises(CommandError, match=told):
        call_command("credits", *words)
