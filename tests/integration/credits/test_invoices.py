"""Invoices: once for each account and month, numbered without gaps, and what they say adds up to the ledger."""

from __future__ import annotations

from datetime import date

import pytest
from django.db import Error, connection, transaction

from automation.contrib.credits import invoices, ledger
from automation.contrib.credits.errors import BookingRefused
from automation.contrib.credits.invoices import money
from automation.contrib.credits.models import Invoice, Transfer, Usage
from automation.models import Site
from pause_manager.observability import audit
from tests.integration.credits.test_api import CREDITS, MANAGE, SEE
from tests.support.api_users import VIEW, client_of, make_user
from tests.support.credit_books import CREDIT, charged, funded_site, price_of
from tests.support.factories import OPERATOR, drain, make_run
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)

MARCH = date(2026, 3, 1)


def used_in_march(site: Site, items: int = 10) -> int:
    """A run of the site, moved into March; thousandths of a credit."""
    run = drain(make_run(items=items, site=site))
    Usage.objects.filter(run_id=run.pk).update(month=MARCH)
    return charged(run)


def issue() -> list[Invoice]:
    return list(invoices.issue_month(date(2026, 3, 15), actor=OPERATOR))


@pytest.mark.req("A-39")
def test_an_invoice_adds_up_to_the_ledger():
    site = funded_site(100, "acme")
    price_of("numbers", "echo", 2_500)
    used = used_in_march(site)

    [made] = issue()

    assert made.credits == used == 25 * CREDIT
    assert made.lines == [{"site": "acme", "stage": "echo", "items": 10, "credits": used}]
    assert (money(made.amount), made.currency) == ("0.25", "EUR")


def test_a_correction_of_a_charge_is_on_the_invoice_of_its_month():
    site = funded_site(100)
    price_of("numbers", "echo")
    used_in_march(site)
    charge = Transfer.objects.filter(kind="charge").latest("pk")
    ledger.correct(charge, 3 * CREDIT, key="k", actor=OPERATOR, reason="poor result")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('credits.erasing_in', pg_current_xact_id()::text, true)")
        cursor.execute("UPDATE credits_transfer SET created_at = '2026-03-31 23:59Z' WHERE kind = 'correction'")

    [made] = issue()

    assert made.credits == 7 * CREDIT
    assert made.lines[-1] == {"site": "", "stage": "corrections", "items": None, "credits": -3 * CREDIT}


def test_a_month_is_issued_once_and_goes_on_where_it_stopped():
    price_of("numbers", "echo")
    sites = [funded_site(50) for _ in range(3)]
    for site in sites[:2]:
        used_in_march(site)
    first = issue()
    used_in_march(sites[2])

    second, third = issue(), issue()

    assert [one.account_id for one in first] == [site.account_id for site in sites[:2]]
    assert [one.account_id for one in second] == [sites[2].account_id]
    assert third == []
    year = first[0].number.split("-")[0]
    assert [one.number for one in [*first, *second]] == [f"{year}-0000{n}" for n in (1, 2, 3)]


def test_two_that_issue_at_once_leave_no_gap_and_no_double():
    price_of("numbers", "echo")
    for _ in range(4):
        used_in_march(funded_site(50))

    race(issue, issue)

    numbers = sorted(int(one.number.split("-")[1]) for one in Invoice.objects.all())
    assert numbers == [1, 2, 3, 4]


def test_a_failure_midway_leaves_no_gap(monkeypatch):
    price_of("numbers", "echo")
    used_in_march(funded_site(50))

    def fail(*args, **kwargs):
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(audit, "record", fail)
        with pytest.raises(RuntimeError):
            issue()

    assert [one.number.split("-")[1] for one in issue()] == ["00001"]


def test_a_month_that_has_not_ended_is_refused():
    with pytest.raises(BookingRefused, match="must have ended an hour ago"):
        list(invoices.issue_month(date(2999, 1, 1), actor=OPERATOR))


def test_an_invoice_is_never_changed():
    price_of("numbers", "echo")
    used_in_march(funded_site(50))
    issue()

    with pytest.raises(Error, match="append-only"), transaction.atomic():
        Invoice.objects.update(credits=0)


@pytest.mark.req("A-36")
def test_members_see_and_download_their_own_invoices():
    pytest.importorskip("weasyprint")
    site, other = funded_site(50, "acme"), funded_site(50, "other")
    price_of("numbers", "echo")
    used_in_march(site)
    used_in_march(other)
    issue()
    client = client_of(make_user("mia", site, VIEW, SEE))

    [found] = client.get(f"{CREDITS}invoices/").json()["results"]
    pdf = client.get(f"{CREDITS}invoices/{found['number']}/pdf/")

    assert (found["name"], found["credits"], found["amount"]) == ("Account of acme", "10.000", "0.10")
    assert pdf.content.startswith(b"%PDF-")
    theirs = Invoice.objects.get(account_id=other.account_id)
    assert client.get(f"{CREDITS}invoices/{theirs.number}/pdf/").status_code == 404
    assert client_of(make_user("max", site, MANAGE)).get(f"{CREDITS}invoices/").status_code == 403


@pytest.mark.parametrize(
    ("millionths", "text"), [(0, "0.00"), (250_000, "0.25"), (-1_234_567_890, "-1,234.56789"), (1, "0.000001")]
)
def test_money_is_written_exactly(millionths, text):
    assert money(millionths) == text
