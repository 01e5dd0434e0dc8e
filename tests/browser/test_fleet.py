"""The fleet's pages in a real browser: paused and resumed by keyboard, seen by others, honest about what is left."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from playwright.sync_api import expect

from automation.models import AutomationRun, Membership, Site
from automation.runs import creation
from pause_manager import fleet, holds, resources
from pause_manager.models import ControlEvent
from tests.browser.conftest import System, Watched
from tests.support import axe, parked_rows
from tests.support.factories import OPERATOR, make_site

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

Visit = Callable[..., Watched]
PASSWORD = "a-long-enough-password"
MAY_ALL = ("operate_fleet", "view_pausequeueentry", "change_pausequeueentry", "view_automationrun", "view_payloads")


def make_user(name: str, site: Site, *permissions: str) -> None:
    user = User.objects.create_user(name, password=PASSWORD)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    Membership.objects.create(account=site.account, user=user)


def make_drill(site: Site, **params: object) -> AutomationRun:
    return creation.create("drill", site=site, actor=OPERATOR, params=params)


@pytest.mark.req("W-30", "W-31", "W-32", "W-34")
def test_the_fleet_is_paused_and_resumed_by_keyboard_alone_and_every_page_says_so(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, *MAY_ALL)
    make_user("vera", site, "view_automationrun")
    watched = visit("olga", PASSWORD, "/fleet/")
    page, other = watched.page, visit("vera", PASSWORD, "/runs/").page
    expect(page.locator("#shell-state")).to_contain_text("Workers: Running")
    expect(page.locator("#steps [aria-current]")).to_have_text("Running")
    page.wait_for_timeout(1_000)

    page.keyboard.press("p")
    dialog = page.locator("#ask")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    expect(dialog.get_by_role("radio", name=re.compile("Drain"))).to_be_checked()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    assert not fleet.state().is_paused, "a reason is required"
    page.keyboard.type("upgrade to 2.5")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()

    for one in (page, other):
        expect(one.locator("#shell-state")).to_contain_text("Workers: Paused (Drain)")
        expect(one.locator("#shell-state")).to_have_attribute("title", re.compile("upgrade to 2.5"))
        expect(one.locator("#shell-banner")).to_contain_text("upgrade to 2.5")
    expect(page.locator("#steps [aria-current]")).to_have_text("Drained, safe to upgrade")
    expect(page.locator("#switch")).to_contain_text("Queued")
    expect(other.get_by_role("button", name="Resume")).to_have_count(0)
    state = fleet.state()
    assert (state.is_paused, state.mode, state.requested_by) == (True, "drain", "user:olga")

    page.locator("#main").focus()
    page.keyboard.press("p")
    expect(dialog.locator("#ask-title")).to_have_text("Resume the fleet?")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("upgraded")
    page.keyboard.press("Enter")

    for one in (page, other):
        expect(one.locator("#shell-state")).to_contain_text("Workers: Running")
    expect(page.locator("#fleet-control")).to_have_text(re.compile("Pause the fleet"))
    assert not fleet.state().is_paused
    assert watched.complaints == []


@pytest.mark.req("W-32", "W-33")
def test_an_undrained_fleet_says_what_is_left_and_is_resumed_after_a_confirmation(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, *MAY_ALL)
    run = make_drill(site, items=4, seconds=25)
    page = visit("olga", PASSWORD, "/fleet/").page
    expect(page.locator("#switch dd").first).not_to_have_text("0", timeout=30_000)

    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)

    expect(page.locator("#steps [aria-current]")).to_have_text(re.compile(r"Draining, \d left"))
    expect(page.locator("#switch table").get_by_role("link", name=f"run {str(run.pk)[:8]}").first).to_be_visible()
    page.get_by_role("button", name="Resume the fleet").click()
    dialog = page.locator("#ask")
    expect(dialog.locator("#ask-title")).to_have_text("Resume although work is still running?")
    dialog.get_by_label("Reason").fill("in a hurry")
    dialog.get_by_role("button", name="Resume anyway").click()
    expect(page.locator("#shell-state")).to_contain_text("Workers: Running")
    released = ControlEvent.objects.of_scope("fleet").filter(action="hold_released").get()
    assert released.details["forced"] is True


@pytest.mark.req("W-35")
def test_a_state_that_cannot_be_read_is_unknown_and_the_rest_continues(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, *MAY_ALL)
    page = visit("olga", PASSWORD, "/fleet/").page
    expect(page.locator("#shell-state")).to_contain_text("Workers: Running")

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE pause_manager_controlstate RENAME TO hidden_state")
    try:
        expect(page.locator("#shell-state")).to_contain_text("Workers: unknown")
        expect(page.locator("#switch")).to_contain_text("cannot be read")
        expect(page.locator("#fleet-control")).to_have_count(0)
        page.goto(f"{system.url}/resources/")
        expect(page.locator("h1")).to_have_text("Resources")
        expect(page.locator("#shell-state")).to_contain_text("Workers: unknown")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE hidden_state RENAME TO pause_manager_controlstate")
    expect(page.locator("#shell-state")).to_contain_text("Workers: Running")


@pytest.mark.req("P-27")
def test_what_is_ticked_and_open_survives_updates_and_is_dropped_together(system: System, visit: Visit) -> None:
    make_user("olga", make_site("ours"), *MAY_ALL)
    holds.place(["queue:foreign"], actor=OPERATOR, reason="vendor")
    first, second, third = parked_rows.keep(3)
    page = visit("olga", PASSWORD, "/pause-queue/").page
    page.locator(f"#pick-{first.pk}").check()
    page.locator(f"#pick-{second.pk}").check()
    page.locator(f"#menu-{third.pk} summary").click()

    parked_rows.keep(1)
    expect(page.locator("[id^=entry-]")).to_have_count(4, timeout=10_000)
    expect(page.locator(f"#pick-{first.pk}")).to_be_checked()
    expect(page.locator(f"#menu-{third.pk}")).to_have_attribute("open", "")
    page.keyboard.press("Escape")
    page.locator(".bulk").get_by_role("button", name="Drop").click()
    page.locator("#ask").get_by_label("Reason").fill("obsolete")
    page.locator("#ask").get_by_role("button", name="Drop").click()

    expect(page.locator("#notices")).to_contain_text("Dropped: 2.")
    expect(page.locator("[id^=entry-]")).to_have_count(2)
    first.refresh_from_db()
    third.refresh_from_db()
    assert (first.outcome, third.outcome) == ("dropped", "")


def test_the_pages_of_the_fleet_fit_a_phone_and_axe_finds_nothing_serious(system: System, visit: Visit) -> None:
    make_user("olga", make_site("ours"), *MAY_ALL)
    holds.place([f"queue:{'a-long-name-' * 7}"], actor=OPERATOR, reason="for a reason that is long " * 8)
    resources.set_limits("openai", {"max_at_once": 4}, actor=OPERATOR)
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)
    parked_rows.keep(2, task="a_task_with_a_name_that_is_far_longer_than_a_phone_is_wide_" * 3)
    page = visit("olga", PASSWORD, "/fleet/").page

    found = []
    for path in ("/fleet/", "/pause-queue/", "/resources/", "/tasks/"):
        page.goto(f"{system.url}{path}")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(300)
            found += [f"{path} {scheme}: {one}" for one in axe.serious(page)]
        page.set_viewport_size({"width": 390, "height": 844})
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{path} scrolls sideways")
        page.set_viewport_size({"width": 1440, "height": 900})

    assert not found, "\n".join(found)
