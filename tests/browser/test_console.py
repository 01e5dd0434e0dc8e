"""The console as people see it: a real browser, web process and worker; nothing is reloaded by hand."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Page, expect

from automation.models import AutomationRun, Lifecycle, Membership, Site
from automation.runs import creation
from pause_manager.console.live.sse import RECHECK_SECONDS
from pause_manager.models import ControlEvent
from tests.browser.conftest import System, Watched
from tests.support.factories import OPERATOR, make_run, make_site, run_loop, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

Visit = Callable[..., Watched]
PASSWORD = "a-long-enough-password"


def make_user(name: str, site: Site, *permissions: str) -> None:
    user = User.objects.create_user(name, password=PASSWORD)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_automationrun", "view_payloads", *permissions])
    )
    Membership.objects.create(account=site.account, user=user)


def make_drill(site: Site, **params: object) -> AutomationRun:
    return creation.create("drill", site=site, actor=OPERATOR, params=params)


def done(page: Page) -> int:
    """Items that the card says are done."""
    return int(page.locator(".stage-figures b").first.inner_text().replace(",", ""))


def expect_to_move(page: Page, seconds: float = 5) -> None:
    """The card moves again and again: once could be the look that a page takes soon after it connects."""
    for _ in range(3):
        before, deadline = done(page), time.monotonic() + seconds
        while done(page) <= before:
            assert time.monotonic() < deadline, f"the card still says {before} after {seconds} s"
            page.wait_for_timeout(100)


def mark(page: Page) -> None:
    """Leave a sign that a reload would wipe away."""
    page.evaluate("window.wasNotReloaded = true")


def was_not_reloaded(page: Page) -> bool:
    return bool(page.evaluate("window.wasNotReloaded === true"))


@pytest.mark.req("M-01", "M-02", "M-03", "M-04", "M-12", "M-13", "A-15", "A-16", "A-19", "M-23")
def test_a_run_is_watched_paused_resumed_and_cancelled(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    watched = visit("olga", PASSWORD)
    page = watched.page
    mark(page)
    page.wait_for_timeout(2 * 1_000 * RECHECK_SECONDS)

    run = make_drill(site, items=400, seconds=0.2)
    page.get_by_role("link", name=f"Drill {str(run.pk)[:8]}").wait_for()
    assert was_not_reloaded(page)
    page.get_by_role("link", name=f"Drill {str(run.pk)[:8]}").click()
    card = page.locator("#card")
    expect(card).to_have_attribute("data-status", "running")
    mark(page)
    expect_to_move(page)

    page.get_by_label("Reason (optional)").first.fill("the render farm is needed")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(card).to_have_attribute("data-status", "paused")
    expect(page.locator(".banner")).to_contain_text("Paused")
    expect(page.locator(".banner")).to_contain_text("the render farm is needed")
    assert page.locator(".banner").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 211, 77)"
    expect(page.locator("#hold-control")).to_have_text("Resume")
    placed = ControlEvent.objects.of_scope(run.scope).filter(action="hold_placed").get()
    assert (placed.actor, placed.channel) == ("user:olga", "console")
    for entry in placed.details.get("in_flight", []):
        expect(card.locator(".facts code", has_text=entry["item"])).to_be_visible()
    page.wait_for_timeout(600)
    at_rest = done(page)
    expect(card).to_contain_text(f"continues with {400 - at_rest} items")
    expect(page.locator("#events")).to_contain_text("the render farm is needed")
    page.wait_for_timeout(1_000)
    assert done(page) == at_rest

    page.locator("#hold-control").click()
    expect(card).to_have_attribute("data-status", "running")
    expect_to_move(page)

    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Keep the run").click()
    expect(page.locator("#cancel-dialog")).to_be_hidden()
    run.refresh_from_db()
    assert run.cancel_requested_at is None
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.locator("#cancel-reason").fill("wrong input")
    page.get_by_role("button", name="Cancel the run").click()
    expect(card).to_have_attribute("data-status", "cancelled")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)
    expect(page.locator("#card-title")).to_be_focused()
    run.refresh_from_db()
    assert run.lifecycle == Lifecycle.CANCELLED
    assert was_not_reloaded(page)
    assert watched.complaints == []
    assert watched.hosts == {f"127.0.0.1:{system.port}"}


@pytest.mark.req("A-17", "A-19")
def test_a_closed_card_stays_closed_until_it_is_brought_back(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=16, seconds=0.3, fail_every=5)
    watched = visit("olga", PASSWORD, f"/runs/{run.pk}/")
    page = watched.page
    mark(page)

    page.get_by_role("button", name="Close this card").click()
    expect(page.locator("#card")).to_be_hidden()
    expect(page.locator("#failures")).to_contain_text("fail_every=5", timeout=20_000)
    expect(page.locator("#outputs .outputs li")).to_have_count(10)
    assert was_not_reloaded(page)
    expect(page.locator("#card")).to_be_hidden()
    page.reload()
    expect(page.locator("#card")).to_be_hidden()

    page.get_by_role("button", name="Show current processing").click()
    expect(page.locator("#card")).to_be_visible()
    expect(page.locator("#card")).to_have_attribute("data-status", "completed_with_failures")
    expect(page.locator("#card")).to_contain_text("3 failed")
    assert watched.complaints == []


def test_times_are_relative_and_exact_in_the_readers_zone_and_enter_cancels_nothing(
    system: System, visit: Visit
) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=400, seconds=0.2)
    page = visit("olga", PASSWORD, f"/runs/{run.pk}/", timezone_id="Asia/Kolkata").page

    created = page.locator(".page-head time")
    expect(created).to_have_text(re.compile(r"^(just now|\d+ s ago)$"))
    local = run.created_at.astimezone(ZoneInfo("Asia/Kolkata"))
    exact = re.compile(rf"^{local:%Y-%m-%d %H:%M:%S} (IST|GMT\+5:30)$")
    expect(created).to_have_attribute("title", exact)
    created.click()
    expect(created).to_have_text(exact)
    expect(page.locator("#events time").first).to_have_text(re.compile(r" (IST|GMT\+5:30)$"))
    created.click()
    expect(created).to_have_text(re.compile(r"^(just now|\d+ s ago)$"))

    page.get_by_role("button", name="Cancel", exact=True).click()
    page.locator("#cancel-reason").fill("typed in a hurry")
    page.locator("#cancel-reason").press("Enter")
    page.wait_for_timeout(1_000)
    expect(page.locator("#cancel-dialog")).to_be_visible()
    run.refresh_from_db()
    assert run.cancel_requested_at is None


@pytest.mark.req("A-36")
def test_viewers_only_look_and_strangers_find_nothing(system: System, visit: Visit) -> None:
    ours, theirs = make_site("ours"), make_site("theirs")
    make_user("vera", ours)
    make_user("stan", theirs, "operate_automationrun")
    run = make_drill(ours, items=400, seconds=0.2)

    viewer = visit("vera", PASSWORD, f"/runs/{run.pk}/").page
    expect_to_move(viewer)
    controls = viewer.locator(".controls button")
    forged = viewer.evaluate(
        """async (path) => (await fetch(path, {method: "POST", body: new URLSearchParams({verb: "pause"}),
           headers: JSON.parse(document.body.getAttribute("hx-headers:inherited"))})).status""",
        f"/runs/{run.pk}/control/",
    )
    stranger = visit("stan", PASSWORD).page
    statuses = [stranger.request.get(f"{system.url}/runs/{run.pk}/{rest}").status for rest in ("", "files/pages/a.txt")]

    assert controls.count() == 0
    assert forged == 403
    assert statuses == [404, 404]
    expect(stranger.locator("#runs")).to_contain_text("No runs yet")
    run.refresh_from_db()
    assert run.paused_at is None


def test_the_page_finds_back_after_the_web_process_died_and_while_redis_is_away(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=2_000, seconds=0.1)
    page = visit("olga", PASSWORD, f"/runs/{run.pk}/").page
    mark(page)
    expect_to_move(page)

    system.kill("web")
    expect(page.get_by_text("Connection lost")).to_be_visible()
    system.start("web", REDIS_URL="redis://127.0.0.1:1/0")
    system.wait_for_web()

    expect(page.get_by_text("Connection lost")).to_be_hidden()
    expect_to_move(page)
    assert was_not_reloaded(page)


def test_outputs_that_are_read_stay_when_another_stage_makes_some(system: System, visit: Visit) -> None:
    system.kill("worker")
    site = make_site("ours")
    make_user("olga", site)
    run = make_run("fan-out", items=9, site=site)
    run_loop(run, "fan")
    watched = visit("olga", PASSWORD, f"/runs/{run.pk}/")
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 400})
    page.locator("#outputs-of-fan").focus()
    first = page.locator(".outputs li").first.inner_text()
    place = page.evaluate("[document.activeElement.id, scrollY]")

    settle(run)

    expect(page.locator("#card")).to_have_attribute("data-status", "completed", timeout=10_000)
    expect(page.locator("main").get_by_text("Echo: all items are done")).to_be_visible(timeout=10_000)
    expect(page.locator("#outputs-of-echo")).to_be_visible()
    expect(page.locator("#outputs-of-fan")).to_have_attribute("aria-current", "true")
    assert page.locator(".outputs li").first.inner_text() == first
    assert page.evaluate("document.activeElement.id") == place[0]
    in_view = page.locator("#outputs-of-fan").bounding_box()
    assert in_view is not None
    assert 0 <= in_view["y"] < 400
    assert not watched.complaints


def test_the_throughput_is_drawn_while_the_page_is_open_and_a_pause_is_a_band(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=2_000, seconds=0.1)
    watched = visit("olga", PASSWORD, f"/runs/{run.pk}/")
    page, chart = watched.page, watched.page.locator("#throughput")

    expect(chart.locator("rect.done").first).to_be_visible(timeout=20_000)
    told = chart.locator(".section-head p")
    first = told.inner_text()
    expect(told).not_to_have_text(first, timeout=20_000)
    assert chart.locator("rect.band").count() == 0

    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#card")).to_have_attribute("data-status", "paused", timeout=10_000)

    expect(chart.locator("rect.band.is-of-people")).to_have_count(1, timeout=20_000)
    chart.get_by_text("Table").click()
    figures = chart.locator("#throughput-table tbody td.number").all_inner_texts()
    assert any(float(one.replace(",", "")) > 0 for one in figures), figures
    page.wait_for_timeout(7_000)
    expect(chart.locator("#throughput-table")).to_have_attribute("open", "")
    assert watched.complaints == []
