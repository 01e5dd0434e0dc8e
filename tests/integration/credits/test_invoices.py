"""Invoices: once for each account and month, numbered without gaps, and what they say adds up to the ledger."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import Error, transaction
from django.utils import timezone

from automation.contrib.credits import invoice_pages, invoices, ledger, tasks
from automation.contrib.credits.amounts import money
from automation.contrib.credits.errors import BookingRefused
from automation.contrib.credits.models import Billing, Invoice, Transfer
from automation.models import Site
from pause_manager.observability import audit
from tests.integration.credits.test_api import CREDITS, MANAGE, SEE
from tests.support.api_users import VIEW, client_of, make_user
from tests.support.credit_books import CREDIT, charged, funded_site, in_book, move_bookings, price_of
from tests.support.factories import OPERATOR, drain, make_run
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)


def used_in_march(site: Site, items: int = 10, at: str = "2026-03-15T12:00Z") -> int:
    """A run of the site, moved into March; thousandths of a credit."""
    run = drain(make_run(items=items, site=site))
    move_bookings(at, run_id=run.pk)
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
    move_bookings("2026-03-31T23:59:59Z", kind="correction")

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


BERLIN = {"time_zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("zone", "at", "month"),
    [
        ("UTC", "2026-03-31T23:59:59Z", 3),
        ("UTC", "2026-04-01T00:00:00Z", 4),
        ("Europe/Berlin", "2026-03-31T21:59:59Z", 3),  # summer time since 29 March
        ("Europe/Berlin", "2026-03-31T22:00:00Z", 4),
        ("Europe/Berlin", "2026-02-28T23:00:00Z", 3),
        ("Europe/Berlin", "2026-02-28T22:59:59Z", 2),
        ("America/Los_Angeles", "2026-04-01T06:59:59Z", 3),
        ("Pacific/Kiritimati", "2026-03-31T10:00:00Z", 4),
    ],
)
def test_a_month_begins_and_ends_in_the_time_zone_of_the_account(zone, at, month):
    price_of("numbers", "echo")
    used_in_march(funded_site(50, time_zone=zone), at=at)

    found = [number for number in (2, 3, 4) for _ in invoices.issue_month(date(2026, number, 1), actor=OPERATOR)]

    assert found == [month]
    assert Invoice.objects.get().credits == 10 * CREDIT


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles", "Europe/Berlin"])
@pytest.mark.parametrize("seconds", [-1, 0, 3_600 * 5, -3_600 * 10, 3_600 * 10])
def test_a_change_of_the_time_zone_bills_everything_once(zone, seconds):
    price_of("numbers", "echo")
    site = funded_site(100)
    used_in_march(site)
    around = datetime(2026, 4, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    used_in_march(site, at=around.isoformat())
    used_in_march(site, at="2026-04-20T00:00Z")
    issue()

    Billing.objects.filter(pk=site.account_id).update(time_zone=zone)
    for month in (4, 5):
        list(invoices.issue_month(date(2026, month, 1), actor=OPERATOR))

    assert sum(made.credits for made in Invoice.objects.all()) == in_book("revenue") == 30 * CREDIT
    ends = dict(Invoice.objects.values_list("month__month", "ends_at"))
    assert Invoice.objects.get(month__month=4).starts_at == ends[3]


def test_invoices_of_months_that_nobody_asked_for_are_issued_by_themselves_the_oldest_first():
    price_of("numbers", "echo")
    now = timezone.now()
    first, second = (now.replace(day=1) - timedelta(days=days) for days in (40, 10))
    site, other = funded_site(50), funded_site(50)
    used_in_march(site, at=second.isoformat())
    used_in_march(other, at=first.isoformat())
    used_in_march(site, at=now.isoformat())

    tasks.issue_invoices.apply()
    tasks.issue_invoices.apply()

    made = list(Invoice.objects.order_by("number").values_list("account_id", "month", "credits"))
    months = [at.date().replace(day=1) for at in (first, second)]
    assert made == [(other.account_id, months[0], 10 * CREDIT), (site.account_id, months[1], 10 * CREDIT)]


def test_they_are_not_where_the_settings_say_so(settings):
    settings.CREDITS = {"issue_invoices": False}
    price_of("numbers", "echo")
    used_in_march(funded_site(50))

    tasks.issue_invoices.apply()

    assert not Invoice.objects.exists()


@pytest.mark.slow
def test_it_goes_on_until_nothing_is_left_in_batches(monkeypatch):
    monkeypatch.setattr(invoices, "BATCH", 2)
    price_of("numbers", "echo")
    for _ in range(5):
        used_in_march(funded_site(50), items=2)

    assert len(issue()) == 5


def test_what_takes_too_long_is_continued_by_the_next_turn():
    price_of("numbers", "echo")
    at = (timezone.now().replace(day=1) - timedelta(days=10)).isoformat()
    for _ in range(3):
        used_in_march(funded_site(50), items=2, at=at)

    turns = [len(list(invoices.issue_due(actor=OPERATOR, seconds=0))) for _ in range(4)]

    assert turns == [1, 1, 1, 0]


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_no_gap_and_no_double(process_env):
    price_of("numbers", "echo")
    for _ in range(12):
        used_in_march(funded_site(50), items=2)
    command = [sys.executable, "-u", "manage.py", "credits", "invoice", "2026-03"]

    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=process_env) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.kill()
        assert first.startswith(b"20")
    assert Invoice.objects.count() >= 3
    list(issue())

    numbers = sorted(int(made.number.split("-")[1]) for made in Invoice.objects.all())
    assert numbers == list(range(1, 13))
    assert sum(made.credits for made in Invoice.objects.all()) == in_book("revenue") == 24 * CREDIT


@pytest.mark.req("A-39")
def test_a_page_shows_what_adds_up_to_the_ledger(settings):
    settings.CREDITS = {
        "invoice_issuer": "Slack & Water GmbH\nHafen 1",
        "invoice_note": "No <VAT>.",
        "credit_price": 12_345,
    }
    price_of("numbers", "echo")
    site = funded_site(50, "acme", **BERLIN, address="Street 1\n<b>Town</b>")
    used = used_in_march(site, at="2026-03-31T21:00Z")
    [made] = issue()

    page = invoice_pages.as_html(made)

    for text in (
        "Slack &amp; Water GmbH",
        "No &lt;VAT&gt;.",
        "&lt;b&gt;Town&lt;/b&gt;",
        "1 March 2026 to 31 March 2026",
        "acme",
    ):
        assert text in page
    assert made.amount == used * 12_345 // 1_000 == 123_450
    assert "0.12345 EUR" in page
    assert "0.12 EUR" in page


def test_a_total_is_rounded_to_what_can_be_paid():
    made = Invoice(amount=125_000, currency="EUR")

    assert invoice_pages.payable(made) == 130_000
    assert invoice_pages.payable(Invoice(amount=124_999, currency="EUR")) == 120_000
    assert invoice_pages.payable(Invoice(amount=-125_000, currency="EUR")) == -120_000
    assert invoice_pages.payable(Invoice(amount=1_499_999, currency="JPY")) == 1_000_000
