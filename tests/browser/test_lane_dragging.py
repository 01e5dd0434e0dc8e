"""Waiting runs of a lane are dragged to another place: by mouse, by finger, against a rule, and by two at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Page, expect

from automation.gate import lane_order
from automation.models import AutomationRun, Membership
from automation.runs import dependencies, lifecycle
from pause_manager.models import ControlEvent
from tests.browser.conftest import Watched
from tests.support.factories import OPERATOR
from tests.support.lane_runs import in_lane, make_lane

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

Visit = Callable[..., Watched]
PASSWORD = "a-long-enough-password"


@pytest.fixture
def waiting() -> list[AutomationRun]:
    """Runs that wait in order, behind one that keeps its place."""
    User.objects.create_superuser("root", password=PASSWORD)
    first, *others = in_lane(make_lane("acme"), 5)
    lifecycle.pause(first.pk, actor=OPERATOR, reason="it keeps its place")
    return others


def order() -> list[AutomationRun]:
    return list(lane_order.waiting_in("acme"))


def names(page: Page) -> list[str]:
    return list(page.locator("tr[id^=lane-run-]").evaluate_all("all => all.map(one => one.id)"))


def grip(page: Page, run: AutomationRun) -> tuple[float, float]:
    box = page.locator(f"[id='lane-run-{run.pk}'] [data-grip]").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def take(page: Page, run: AutomationRun, other: AutomationRun) -> None:
    """Hold ``run`` over the upper part of ``other``."""
    x, y = grip(page, run)
    page.mouse.move(x, y)
    page.mouse.down()
    target = page.locator(f"[id='lane-run-{other.pk}']").bounding_box()
    assert target is not None
    page.mouse.move(x, (y + target["y"]) / 2)
    page.mouse.move(x, target["y"] + 4)


def expect_order(page: Page, runs: list[AutomationRun]) -> None:
    for number, run in enumerate(runs):
        expect(page.locator("tr[id^=lane-run-]").nth(number)).to_have_id(f"lane-run-{run.pk}", timeout=5_000)


def test_a_run_is_dragged_by_mouse_and_another_browser_sees_it(visit: Visit, waiting: list[AutomationRun]) -> None:
    a, b, c, d = waiting
    mine, theirs = (visit("root", PASSWORD, "/lanes/?lane=acme") for _ in range(2))

    take(mine.page, d, b)
    expect(mine.page.locator(f"[id='lane-run-{b.pk}']")).to_have_class("drop-before")
    assert order() == [a, b, c, d]  # nothing is moved before it is let go
    mine.page.mouse.up()

    expect_order(theirs.page, [a, d, b, c])
    expect_order(mine.page, [a, d, b, c])
    expect(mine.page.locator("#notices")).to_contain_text("is number 2 of those that wait")
    expect(mine.page.locator(".is-dragged, .is-moving, .drop-before")).to_have_count(0)
    assert order() == [a, d, b, c]
    assert not mine.complaints
    assert not theirs.complaints


def test_a_run_is_dragged_below_the_last(visit: Visit, waiting: list[AutomationRun]) -> None:
    a, b, c, d = waiting
    page = visit("root", PASSWORD, "/lanes/?lane=acme").page

    x, y = grip(page, a)
    _, last = grip(page, d)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, last + 12)
    page.mouse.up()

    expect_order(page, [b, c, d, a])
    assert order() == [b, c, d, a]


def test_escape_lets_a_dragged_run_be_where_it_was(visit: Visit, waiting: list[AutomationRun]) -> None:
    page = visit("root", PASSWORD, "/lanes/?lane=acme").page

    take(page, waiting[3], waiting[0])
    page.keyboard.press("Escape")
    page.mouse.up()

    expect(page.locator(".is-dragged, .is-moving, .drop-before")).to_have_count(0)
    assert order() == waiting
    assert not ControlEvent.objects.filter(action="reordered").exists()


def test_a_run_is_dragged_by_finger(visit: Visit, waiting: list[AutomationRun]) -> None:
    a, b, c, d = waiting
    watched = visit("root", PASSWORD, "/lanes/?lane=acme", has_touch=True)
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator(f"[id='lane-run-{b.pk}'] [data-grip]").scroll_into_view_if_needed()
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *points: dict[str, float]) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    x, y = grip(page, b)
    box = page.locator(f"[id='lane-run-{a.pk}']").bounding_box()
    assert box is not None
    send("touchStart", {"x": x, "y": y})
    for part in range(1, 9):
        send("touchMove", {"x": x, "y": y + (box["y"] + 6 - y) * part / 8})
    send("touchEnd")

    expect_order(page, [b, a, c, d])
    assert order() == [b, a, c, d]
    assert not watched.complaints


def test_a_refused_move_goes_back_and_says_why(visit: Visit, waiting: list[AutomationRun]) -> None:
    a, _, _, d = waiting
    dependencies.add(d.pk, [a.pk], actor=OPERATOR)
    page = visit("root", PASSWORD, "/lanes/?lane=acme").page

    take(page, d, a)
    page.mouse.up()

    expect(page.locator("#notices [role=alert]")).to_contain_text("which it waits for")
    expect(page.locator(".is-dragged, .is-moving, .drop-before")).to_have_count(0)
    assert page.locator(f"[id='lane-run-{d.pk}']").evaluate("row => row.style.transform") == ""
    assert names(page) == [f"lane-run-{run.pk}" for run in waiting]
    assert order() == waiting


def test_two_browsers_that_drag_at_once_end_in_one_order(visit: Visit, waiting: list[AutomationRun]) -> None:
    a, b, c, d = waiting
    one, other = (visit("root", PASSWORD, "/lanes/?lane=acme").page for _ in range(2))

    take(one, d, a)
    take(other, c, a)
    one.mouse.up()
    other.mouse.up()

    for page in (one, other):
        expect(page.locator("#notices")).to_contain_text("of those that wait")
    both = order()
    assert both in ([d, c, a, b], [c, d, a, b])
    expect_order(one, both)
    expect_order(other, both)
    assert ControlEvent.objects.filter(action="reordered").count() == 2


def test_who_may_not_operate_has_no_handle(visit: Visit, waiting: list[AutomationRun]) -> None:
    looks = User.objects.create_user("looks", password=PASSWORD)
    looks.user_permissions.add(Permission.objects.get(codename="view_automationrun"))
    Membership.objects.create(account=waiting[0].site.account, user=looks)
    page = visit("looks", PASSWORD, "/lanes/?lane=acme").page

    expect(page.locator("tr[id^=lane-run-]")).to_have_count(4)
    expect(page.locator("[data-grip]")).to_have_count(0)
