"""Usage by day, pipeline and run: it adds up to the ledger, in the reader's time zone, a page at a time."""

from __future__ import annotations

from datetime import date

import pytest

from automation.contrib.credits import ledger
from automation.contrib.credits.models import Transfer
from automation.contrib.credits.reports import usage_history
from automation.contrib.credits.reports.usage_history import Filters, Row
from tests.integration.credits.test_api import CREDITS, SEE
from tests.support.api_users import client_of, make_user
from tests.support.credit_books import CREDIT, funded_site, in_book, move_bookings, price_of
from tests.support.factories import OPERATOR, drain, make_run

pytestmark = pytest.mark.django_db(transaction=True)

MARCH = {"since": date(2026, 3, 1), "until": date(2026, 3, 31)}


def used(site, pipeline: str, stage: str, items: int, at: str):
    run = drain(make_run(pipeline, items=items, site=site))
    move_bookings(at, run_id=run.pk)
    return run


@pytest.fixture
def site():
    price_of("numbers", "echo")
    price_of("scripted", "scripted", 2 * CREDIT)
    return funded_site(500, "acme")


@pytest.fixture
def runs(site):
    return [
        used(site, "numbers", "echo", 5, "2026-03-01T00:00Z"),
        used(site, "scripted", "scripted", 4, "2026-03-01T23:59Z"),
        used(site, "numbers", "echo", 3, "2026-03-31T23:30Z"),
        used(site, "numbers", "echo", 9, "2026-04-01T00:00Z"),
    ]


def of(owner, /, **more) -> Filters:
    return Filters(**{"accounts": [owner.account_id], **MARCH, **more})


def test_a_chart_has_a_value_for_each_day_and_adds_up_to_the_ledger(site, runs):
    chart = usage_history.chart(of(site))

    assert (len(chart.days), chart.days[0], chart.days[-1]) == (31, date(2026, 3, 1), date(2026, 3, 31))
    assert [one.name for one in chart.series] == ["numbers", "scripted"]
    numbers, scripted = (one.values for one in chart.series)
    assert (numbers[0], numbers[30], sum(numbers)) == (5 * CREDIT, 3 * CREDIT, 8 * CREDIT)
    assert (scripted[0], sum(scripted)) == (8 * CREDIT, 8 * CREDIT)
    year = usage_history.chart(of(site, since=date(2026, 1, 1), until=date(2026, 12, 31)))
    assert year.total == in_book("revenue") == 25 * CREDIT


def test_days_begin_in_the_time_zone_that_is_asked_for(site, runs):
    chart = usage_history.chart(of(site, time_zone="Europe/Berlin"))

    assert chart.series[0].name == "scripted"
    assert sum(chart.series[1].values) == 5 * CREDIT, "23:30 UTC is April in Berlin"
    assert chart.series[0].values[1] == 8 * CREDIT


def test_a_correction_is_taken_from_the_pipeline_that_it_corrects(site, runs):
    charge = Transfer.objects.filter(kind="charge", run_id=runs[1].pk).latest("pk")
    ledger.correct(charge, 3 * CREDIT, key="k", actor=OPERATOR, reason="poor")
    move_bookings("2026-03-05T12:00Z", kind="correction")

    chart = usage_history.chart(of(site))

    (scripted,) = (one.values for one in chart.series if one.name == "scripted")
    assert (scripted[0], scripted[4]) == (8 * CREDIT, -3 * CREDIT)


@pytest.mark.parametrize(
    ("by", "names"),
    [("day", ["2026-03-31", "2026-03-01"]), ("pipeline", ["numbers", "scripted"])],
)
def test_pages_have_every_row_once(site, runs, by, names):
    first = usage_history.page(of(site), by, limit=1)
    second = usage_history.page(of(site), by, after=first.next or "", limit=1)

    assert [row.name for row in (*first.rows, *second.rows)] == names
    assert second.next is None
    assert sum(row.credits for row in (*first.rows, *second.rows)) == 16 * CREDIT


def test_runs_are_listed_the_last_that_started_first(site, runs):
    found: list[Row] = []
    cursor = ""
    while True:
        page = usage_history.page(of(site), "run", after=cursor, limit=1)
        found += page.rows
        if page.next is None:
            break
        cursor = page.next

    assert [row.name for row in found] == [str(run.pk) for run in (runs[2], runs[1], runs[0])]
    assert [(row.pipeline, row.site, row.credits) for row in found][1] == ("scripted", "acme", 8 * CREDIT)


@pytest.mark.parametrize(
    ("more", "credits"),
    [({"pipeline": "scripted"}, 8), ({"stage": "echo"}, 8), ({"pipeline": "none"}, 0), ({"accounts": []}, 0)],
)
def test_filters_leave_the_rest_out(site, runs, more, credits):
    assert usage_history.chart(of(site, **more)).total == credits * CREDIT


def test_by_run_and_site(site, runs):
    other = funded_site(50, "other")
    used(other, "numbers", "echo", 2, "2026-03-02T12:00Z")
    both = of(site, accounts=[site.account_id, other.account_id])

    assert usage_history.chart(of(site, run=runs[0].pk)).total == 5 * CREDIT
    assert {one.name: sum(one.values) for one in usage_history.chart(both, "site").series} == {
        "acme": 16 * CREDIT,
        "other": 2 * CREDIT,
    }
    assert usage_history.chart(of(site, site=other.pk)).total == 0


def test_beyond_twelve_series_the_rest_is_one(site, runs, monkeypatch):
    monkeypatch.setattr(usage_history, "MOST_SERIES", 1)

    [only] = usage_history.chart(of(site)).series

    assert (only.name, sum(only.values)) == ("others", 16 * CREDIT)


@pytest.mark.req("A-36")
def test_a_member_sees_the_history_of_their_account_over_http(site, runs):
    other = funded_site(50, "other")
    used(other, "numbers", "echo", 2, "2026-03-02T12:00Z")
    client = client_of(make_user("mia", site, SEE))
    month = "since=2026-03-01&until=2026-03-31"

    chart = client.get(f"{CREDITS}usage/chart/?by=stage&{month}").json()
    first = client.get(f"{CREDITS}usage/rows/?by=run&limit=2&{month}").json()
    rest = client.get(first["next"]).json()

    assert (chart["total"], [one["name"] for one in chart["series"]]) == ("16.000", ["echo", "scripted"])
    assert [row["credits"] for row in (*first["results"], *rest["results"])] == ["3.000", "8.000", "5.000"]
    assert client.get(f"{CREDITS}usage/chart/?{month}&account={other.account_id}").json()["total"] == "0.000"
    assert client.get(f"{CREDITS}usage/chart/").status_code == 200


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("chart/?since=2020-01-01", "expected 1 to 366 days"),
        ("chart/?since=2026-03-02&until=2026-03-01", "expected 1 to 366 days"),
        ("chart/?by=month", "month"),
        ("chart/?time_zone=Mars", "Expected a time zone"),
        ("rows/?by=day&cursor=x", "expected the cursor of a page before"),
        ("rows/?by=run&cursor=x~y", "expected the cursor of a page before"),
        ("rows/?by=run&cursor=2026-03-01", "expected the cursor of a page before"),
        ("rows/?limit=0", "greater than or equal to 1"),
        ("rows/?colour=red", "Unknown"),
    ],
)
def test_a_wrong_question_is_refused_with_what_is_allowed(site, query, told):
    response = client_of(make_user("mia", site, SEE)).get(f"{CREDITS}usage/{query}")

    assert response.status_code == 400
    assert told in response.json()["message"]
