"""A run asks on its page, on a wide and on a narrow screen, and continues once it is answered there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from automation.runs import creation
from tests.browser import asking_app
from tests.browser.asking_app import pipelines
from tests.browser.conftest import System, Watched
from tests.browser.test_console import PASSWORD, make_user
from tests.support.factories import OPERATOR, make_site, outputs

assert pipelines
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.django_db(transaction=True),
]
WIDTHS = (1440, 390)


@pytest.fixture
def process_env(process_env: dict[str, str]) -> dict[str, str]:
    return {**process_env, "SLACKWATER_APPS": asking_app.__name__}


def look(page: Page, name: str) -> None:
    """Nothing is wider than the screen; where ``SCREENSHOTS`` names a folder, a picture is left there."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} at {width}"
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}.png", full_page=True)


@pytest.mark.req("S-30")
def test_questions_are_answered_on_the_page(system: System, visit: Callable[..., Watched]) -> None:
    site = make_site("ours")
    make_user("olga", site, "operate_automationrun")
    run = creation.create("publishing", site=site, actor=OPERATOR, items=[{"n": n} for n in range(1, 5)])
    watched = visit("olga", PASSWORD, f"/runs/{run.pk}/")
    page = watched.page
    questions = page.locator(".questions")

    expect(questions.get_by_text("Publish it?")).to_be_visible(timeout=20_000)
    expect(page.locator("#card")).to_have_attribute("data-status", "paused")
    look(page, "question")
    # Both may have been in progress when the first asked; if not, the second asks once the first is answered.
    page.get_by_role("button", name="Publish it without the name").click()
    expect(questions.get_by_text("Which colour")).to_be_visible(timeout=20_000)
    look(page, "free-text")
    page.get_by_label("Answer", exact=True).fill("blue")
    page.get_by_role("button", name="Answer", exact=True).click()

    expect(questions.get_by_text("has failed once")).to_be_visible(timeout=20_000)
    expect(questions.get_by_text("ValueError: the template has no place for page 3")).to_be_visible()
    look(page, "exhausted")
    page.get_by_label("The answer is for").select_option(label="all items with this error")
    page.get_by_role("button", name="Skip it").click()

    expect(page.locator("#card")).to_have_attribute("data-status", "completed_with_failures", timeout=20_000)
    look(page, "ended")
    run.refresh_from_db()
    assert [(one["n"], one["answer"]) for one in outputs(run)] == [
        (1, "Publish it without the name"),
        (2, "blue"),
        (4, ""),
    ]
    assert watched.complaints == []
