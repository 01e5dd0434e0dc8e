"""Lanes, schedules, pause windows, audit, settings and credits in a real browser, and what axe finds there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from automation.contrib.credits import ledger
from automation.gate import lane_order
from automation.models import AutomationRun, Schedule
from automation.runs import lifecycle
from pause_manager.models import PauseWindow
from tests.browser.conftest import System, Watched
from tests.support import axe
from tests.support.factories import OPERATOR
from tests.support.lane_runs import in_lane, make_lane
from tests.support.schedules import make_schedule
from tests.support.windows import make_window

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

Visit = Callable[..., Watched]
PASSWORD = "a-long-enough-password"
SHELL = ("label-content-name-mismatch",)
"""The find button of the shell shows its key, which is not part of its name."""
PAGES = ("lanes/", "schedules/", "schedules/new/?pipeline=drill", "windows/", "audit/", "settings/", "credits/")


def order() -> list[AutomationRun]:
    return list(lane_order.waiting_in("acme"))


def test_a_lane_is_reordered_by_keyboard_and_another_browser_sees_it(system: System, visit: Visit) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    first, second, third, fourth = in_lane(make_lane("acme"), 4)
    lifecycle.pause(first.pk, actor=OPERATOR, reason="it keeps its place")
    mine, theirs = visit("root", PASSWORD, "/lanes/"), visit("root", PASSWORD, "/lanes/")

    mine.page.get_by_role("button", name=f"Move run {str(fourth.pk)[:8]} up").focus()
    mine.page.keyboard.press("Enter")

    rows = theirs.page.locator("tr[id^=lane-run-]")
    expect(rows.nth(1)).to_have_id(f"lane-run-{fourth.pk}", timeout=5_000)
    assert order() == [second, fourth, third]
    expect(mine.page.locator("#notices")).to_contain_text("is number 2 of those that wait")
    assert not mine.complaints
    assert not theirs.complaints


def test_a_schedule_is_previewed_before_it_is_saved(system: System, visit: Visit) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    make_lane("acme")
    watched = visit("root", PASSWORD, "/schedules/new/?pipeline=drill")
    page = watched.page

    page.get_by_label("Name").fill("workdays")
    page.get_by_label("How often").select_option("weekly")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    expect(page.locator("#coming")).to_contain_text("weekdays 02:00, Europe/Berlin")
    page.get_by_label("Weekdays").fill("noday")
    expect(page.locator("#coming").get_by_role("alert")).to_be_visible()
    page.get_by_label("Weekdays").fill("sat,sun")
    expect(page.locator("#coming li")).to_have_count(5)
    assert not Schedule.objects.exists()
    page.get_by_role("button", name="Create the schedule").click()

    expect(page.get_by_role("heading", name="workdays")).to_be_visible()
    assert Schedule.objects.get().weekdays == "sat,sun"
    assert not watched.complaints


def test_a_pause_window_is_made_in_the_dialog(system: System, visit: Visit) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    watched = visit("root", PASSWORD, "/windows/")
    page = watched.page

    page.get_by_role("button", name="New window").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("backup")
    expect(dialog.locator("input[name=weekdays]")).to_be_hidden()
    dialog.locator("#ask-fields input[name=reason]").fill("the backup runs")
    dialog.get_by_role("button", name="Create").click()

    expect(page.locator("#window-backup")).to_contain_text("every day 02:00, UTC", timeout=5_000)
    assert PauseWindow.objects.get().reason == "the backup runs"
    assert not watched.complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_pages_fit_and_axe_finds_nothing_serious(system: System, visit: Visit, scheme: str, width: int) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    site = make_lane("acme")
    run, *_ = in_lane(site, 3)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    make_schedule(site)
    make_window("queue:night")
    ledger.top_up(site.account, 5_000, key="paid", actor=OPERATOR)
    watched = visit("root", PASSWORD, "/lanes/", color_scheme=scheme)
    watched.page.set_viewport_size({"width": width, "height": 900})

    for path in PAGES:
        watched.page.goto(f"{system.url}/{path}")
        watched.page.locator("main").wait_for()
        assert axe.serious(watched.page, without=SHELL) == [], path
        assert watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
