"""axe-core in a page of the browser: what keeps people who use a keyboard or a screen reader from using it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

SCRIPT = Path(__file__).parent / "vendor" / "axe" / "axe.min.js"
SERIOUS = ("serious", "critical")
_RUN = """async (rules) => (await axe.run(document, {
    resultTypes: ["violations"], rules: Object.fromEntries(rules.map(id => [id, {enabled: false}])),
})).violations.map(found => ({
    id: found.id, impact: found.impact, help: found.help,
    nodes: found.nodes.slice(0, 5).map(node => `${node.target.join(" ")}: ${node.html.slice(0, 160)}`),
}))"""


def violations(page: Page, *, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return all that axe finds on the page as it is now, save the rules ``without``."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_script())
    found: list[dict[str, Any]] = page.evaluate(_RUN, list(without))
    return found


def serious(page: Page, *, without: tuple[str, ...] = ()) -> list[str]:
    """Return the serious and critical findings as lines to read; empty if there is none."""
    return [
        f"{one['impact']} {one['id']}: {one['help']}\n    " + "\n    ".join(one["nodes"])
        for one in violations(page, without=without)
        if one["impact"] in SERIOUS
    ]


@cache
def _script() -> str:
    return SCRIPT.read_text(encoding="utf-8")
