"""Starting a run in a real browser: the file is shown before it is read for good."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import expect

from automation.models import AutomationRun, Membership, Site
from tests.browser.conftest import System, Watched
from tests.support.factories import make_site

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

Visit = Callable[..., Watched]
PASSWORD = "a-long-enough-password"
FILES = Path(__file__).parents[1] / "data" / "inputs"


def make_operator(name: str, site: Site) -> None:
    user = User.objects.create_user(name, password=PASSWORD)
    codenames = ["view_automationrun", "operate_automationrun"]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    Membership.objects.create(account=site.account, user=user)


def test_a_file_is_previewed_and_then_a_run_starts_from_it(system: System, visit: Visit) -> None:
    make_operator("olga", make_site("ours"))
    watched = visit("olga", PASSWORD, "/runs/new/?pipeline=content")
    page = watched.page
    preview = page.locator("#preview")

    page.get_by_label("Keywords file").set_input_files(FILES / "39_sitemap.xml")
    expect(preview.get_by_role("alert")).to_contain_text("line 1: it is XML")
    page.get_by_label("Keywords file").set_input_files(FILES / "75_search_terms_with_totals.csv")
    expect(preview).to_contain_text("3 items will be read")
    expect(preview).to_contain_text("2 rows before the header")
    expect(preview).to_contain_text("2 totals after the last row")
    expect(preview.get_by_role("cell", name="rain jacket")).to_be_visible()
    take_picture(watched, "preview")
    assert not AutomationRun.objects.exists()
    page.get_by_role("button", name="Start", exact=True).click()

    page.locator("#card").wait_for()
    assert AutomationRun.objects.get().total_items == 3
    assert not watched.complaints


def test_typed_keywords_are_previewed_while_they_are_typed(system: System, visit: Visit) -> None:
    make_operator("olga", make_site("ours"))
    watched = visit("olga", PASSWORD, "/runs/new/?pipeline=content")
    page = watched.page

    page.get_by_label("or type or paste them").press_sequentially("tent\nstove\nTENT")
    expect(page.locator("#preview")).to_contain_text("2 items will be read")
    expect(page.locator("#preview")).to_contain_text("1 duplicate")
    page.get_by_role("button", name="Start", exact=True).click()

    page.locator("#card").wait_for()
    assert AutomationRun.objects.get().total_items == 2
    assert not watched.complaints


def take_picture(watched: Watched, name: str) -> None:
    """For whoever wants to look: ``PICTURES=folder``."""
    if folder := os.environ.get("PICTURES"):
        for width in (1440, 390):
            watched.page.set_viewport_size({"width": width, "height": 900})
            watched.page.screenshot(path=Path(folder) / f"{name}-{width}.png", full_page=True)
