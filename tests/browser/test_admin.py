"""The admin: what axe finds on its lists and forms in light and dark, and whether a desk's width is enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from automation.contrib.credits import ledger
from automation.runs import lifecycle
from pause_manager import fleet
from tests.browser.conftest import System, Watched
from tests.integration.console.test_tasks_page import fail
from tests.support import axe, parked_rows
from tests.support.factories import OPERATOR, make_run, settle
from tests.support.lane_runs import in_lane, make_lane
from tests.support.schedules import make_schedule
from tests.support.windows import make_window

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(600),
]

Visit = Callable[..., Watched]
PASSWORD = "a-long-enough-password"


def fill() -> None:
    """Rows in as many tables as a small system has."""
    site = make_lane("acme")
    settle(make_run("strict", items=3, site=site))
    run, *_ = in_lane(site, 3)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="the render farm is needed until six")
    make_schedule(site)
    make_window("queue:night")
    ledger.top_up(site.account, 5_000, key="paid", actor=OPERATOR)
    fail(17, size=3)
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR)
    parked_rows.keep(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_admin_and_a_desk_is_wide_enough(
    system: System, visit: Visit, scheme: str
) -> None:
    system.kill("worker")
    User.objects.create_superuser("root", password=PASSWORD)
    fill()
    page = visit("root", PASSWORD, "/fleet/", color_scheme=scheme).page
    page.goto(f"{system.url}/admin/")
    lists = page.eval_on_selector_all("#content-main th a", "all => all.map(one => new URL(one.href).pathname)")
    assert len(lists) > 20
    found: list[str] = []
    forms: list[str] = []

    def look(path: str) -> None:
        page.goto(f"{system.url}{path}")
        page.locator("#content").wait_for()
        found.extend(f"{path}: {line}" for line in axe.serious(page))
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{path}: scrolls sideways")

    look("/admin/")
    for path in lists:
        look(path)
        for form in ("#result_list tbody th a", ".object-tools .addlink"):
            forms += page.locator(form).evaluate_all("all => all.slice(0, 1).map(one => one.getAttribute('href'))")
    for form in forms:
        look(form)

    assert page.locator("#site-name a").first.get_attribute("href") == "/"
    assert not found, "\n".join(found)
