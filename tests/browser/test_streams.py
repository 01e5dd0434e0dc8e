"""One stream for a browser, however many tabs: a real browser, web process and worker."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Page, expect

from automation.models import Membership
from tests.browser.conftest import System, Watched
from tests.browser.test_console import PASSWORD, expect_to_move, make_drill, make_user
from tests.support.factories import make_site

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

Visit = Callable[..., Watched]
TABS = 8
WITHOUT_WORKER = "delete window.SharedWorker"
BROKEN_WORKER = """window.SharedWorker = class extends SharedWorker {
    constructor(url, options) { super("/static/nowhere.js", options); }
}"""
HIDE = """(isHidden) => {
    Object.defineProperty(document, "hidden", {value: isHidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def streams(system: System) -> int:
    """Connections from a browser to the web process; uvicorn ends those that idle for five seconds."""
    process = psutil.Process(system.processes["web"].pid)
    found = process.net_connections(kind="tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == system.port for one in found)


def wait_for_streams(page: Page, system: System, count: int, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while (now := streams(system)) != count:
        assert time.monotonic() < deadline, f"{now} connections, expected {count}"
        page.wait_for_timeout(200)


def open_tabs(first: Page, system: System, paths: list[str]) -> list[Page]:
    found = []
    for path in paths:
        page = first.context.new_page()
        page.goto(f"{system.url}{path}")
        page.wait_for_selector("main.wide-page")
        found.append(page)
    return found


def test_eight_tabs_share_one_stream_and_every_button_works(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    runs = [make_drill(site, items=2_000, seconds=0.3) for _ in range(2)]
    paths = (
        [f"/runs/{runs[0].pk}/"] * 3
        + [f"/runs/{runs[1].pk}/"] * 2
        + ["/runs/", "/runs/?status=active", f"/runs/{runs[0].pk}/"]
    )
    watched = visit("olga", PASSWORD, "/")

    tabs = open_tabs(watched.page, system, paths[:TABS])

    for tab in (tabs[0], tabs[-1]):
        expect_to_move(tab)
    wait_for_streams(watched.page, system, 1)
    tabs[-1].get_by_role("button", name="Pause", exact=True).click()
    for tab in (tabs[0], tabs[1], tabs[-1]):
        expect(tab.locator("#card")).to_have_attribute("data-status", "paused", timeout=10_000)
    expect(tabs[5].locator(f"#run-{runs[0].pk}")).to_contain_text("paused", timeout=10_000)
    assert watched.complaints == []


@pytest.mark.parametrize("closes", [0, 3])
def test_when_tabs_close_the_others_go_on(system: System, visit: Visit, closes: int) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=2_000, seconds=0.3)
    first = visit("olga", PASSWORD, "/").page
    tabs = open_tabs(first, system, [f"/runs/{run.pk}/"] * 4)
    expect_to_move(tabs[1])

    tabs[closes].close()
    first.close()

    expect_to_move(tabs[1], seconds=3)
    expect_to_move(tabs[2], seconds=3)


def test_hidden_tabs_ask_for_nothing_and_catch_up_when_they_are_seen(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=2_000, seconds=0.3)
    first = visit("olga", PASSWORD, f"/runs/{run.pk}/").page
    (second,) = open_tabs(first, system, [f"/runs/{run.pk}/"])
    expect_to_move(second)

    for page in (first, second):
        page.evaluate(HIDE, True)
    wait_for_streams(first, system, 0)
    before = first.locator("#card").inner_text()
    first.wait_for_timeout(2_500)
    assert first.locator("#card").inner_text().splitlines()[0] == before.splitlines()[0]
    assert streams(system) == 0

    second.evaluate(HIDE, False)
    expect_to_move(second)
    wait_for_streams(first, system, 1)


@pytest.mark.parametrize("without", [WITHOUT_WORKER, BROKEN_WORKER], ids=["none", "broken"])
def test_a_browser_without_shared_workers_has_a_stream_in_the_tab_that_is_seen(
    system: System, visit: Visit, without: str
) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=2_000, seconds=0.3)
    first = visit("olga", PASSWORD, "/").page
    first.context.add_init_script(without)
    first.evaluate(HIDE, True)

    (page,) = open_tabs(first, system, [f"/runs/{run.pk}/"])

    expect_to_move(page)
    wait_for_streams(page, system, 1)


def test_who_signs_in_after_another_gets_nothing_of_theirs_and_their_tabs_fall_silent(
    system: System, visit: Visit
) -> None:
    ours, theirs = make_site("ours"), make_site("theirs")
    make_user("olga", ours, "operate_automationrun")
    make_user("stan", theirs, "operate_automationrun")
    run = make_drill(ours, items=2_000, seconds=0.3)
    olga = visit("olga", PASSWORD, f"/runs/{run.pk}/").page
    expect_to_move(olga)
    (other,) = open_tabs(olga, system, ["/runs/"])

    other.locator("details.who > summary").click()
    other.get_by_role("button", name="Sign out").click()
    other.get_by_label("User name").fill("stan")
    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    other.get_by_role("link", name="Runs", exact=True).click()
    expect(other.locator("#runs")).to_contain_text("No runs yet")

    expect(olga.locator("#connection")).to_contain_text("You are signed out", timeout=20_000)
    before = olga.locator(".stage-figures b").first.inner_text()
    olga.wait_for_timeout(2_500)
    assert olga.locator(".stage-figures b").first.inner_text() == before
    expect(other.locator("#runs")).to_contain_text("No runs yet")
    make_drill(theirs, items=10, seconds=0.1)
    expect(other.locator("#runs")).to_contain_text("Drill", timeout=10_000)


@pytest.mark.parametrize("what", ["membership", "permission"])
def test_who_loses_a_right_hears_nothing_more(system: System, visit: Visit, what: str) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=2_000, seconds=0.3)
    page = visit("olga", PASSWORD, f"/runs/{run.pk}/").page
    expect_to_move(page)

    user = User.objects.get(username="olga")
    if what == "membership":
        Membership.objects.filter(user=user).delete()
    else:
        user.user_permissions.remove(Permission.objects.get(codename="view_automationrun"))

    expect(page.locator("#connection")).to_be_visible(timeout=20_000)
    before = page.locator(".stage-figures b").first.inner_text()
    page.wait_for_timeout(2_500)
    assert page.locator(".stage-figures b").first.inner_text() == before


def test_the_web_process_ends_at_once_and_quietly_while_pages_are_open(system: System, visit: Visit) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = make_drill(site, items=2_000, seconds=0.3)
    page = visit("olga", PASSWORD, f"/runs/{run.pk}/").page
    expect_to_move(page)

    process: Any = system.processes.pop("web")
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(10)

    assert time.monotonic() - asked_at < 3
    log = (system.root / "web.log").read_text()
    assert "graceful shutdown" not in log
    assert "Traceback" not in log
    expect(page.locator("#connection")).to_contain_text("Connection lost", timeout=10_000)
    system.start("web")
    system.wait_for_web()
    expect_to_move(page, seconds=10)
