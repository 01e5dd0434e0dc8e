"""Pictures of every page of the console, from a real system: ``make pictures`` (docs/images, docs/howto/console.md).

The system runs already (``make up``); this starts work in it over its API, waits until there is something to see, and
takes each page of the navigation at the width of a desk and of a phone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
WIDTHS = {1440: 900, 390: 844}
SECONDS_OF_WORK = 75
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class System:
    """The API of a running system, as its operator."""

    def __init__(self, data_dir: Path, port: int) -> None:
        found = json.loads((data_dir / "credentials.json").read_text(encoding="utf-8"))
        self.username, self.password, self.token = found["username"], found["password"], found["token"]
        self.url = f"http://localhost:{port}"

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a command; a refusal is printed and is no reason to stop."""
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v1{path}", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                told: dict[str, Any] = json.load(answer)
                return told
        except urllib.error.HTTPError as refusal:
            print(f"{path}: {refusal.read().decode()[:300]}")
            return {}

    def make_work(self) -> str:
        """Start runs of several kinds, pause one, hold a queue; returns the run whose page is taken."""
        runs = "/automation/runs/"
        for params in ({"items": 900, "seconds": 0.4, "fail_every": 60}, {"items": 600, "seconds": 0.5}, {"items": 40}):
            self.post(runs, {"pipeline": "drill", "site": "default", "params": params})
        paused = self.post(runs, {"pipeline": "drill", "site": "default", "params": {"items": 500, "seconds": 0.4}})
        time.sleep(SECONDS_OF_WORK)
        if paused:
            self.post(f"{runs}{paused['id']}/pause/", {"reason": "The render farm is needed until six"})
        self.post("/holds/", {"scopes": ["queue:reports"], "reason": "Upgrade of the report server"})
        time.sleep(5)
        return str(paused.get("id", ""))


def signed_in(browser: Browser, system: System, width: int) -> Page:
    context = browser.new_context(viewport={"width": width, "height": WIDTHS[width]}, color_scheme="light")
    page = context.new_page()
    page.goto(f"{system.url}/sign-in/")
    page.screenshot(path=IMAGES / f"console-sign-in-{width}.png")
    page.get_by_label("User name").fill(system.username)
    page.get_by_label("Password").fill(system.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("main.wide-page")
    return page


def take(page: Page, system: System, path: str, width: int) -> None:
    name = {"/": "overview"}.get(path) or ("run" if path.count("/") > 2 and "new" not in path else "")
    name = name or path.strip("/").replace("/", "-")
    page.goto(f"{system.url}{path}")
    page.wait_for_timeout(2_500)
    place = IMAGES / f"console-{name}-{width}.png"
    height = min(int(page.evaluate("document.documentElement.scrollHeight")), 2 * WIDTHS[width])
    page.set_viewport_size({"width": width, "height": max(WIDTHS[width], height)})
    page.screenshot(path=place)
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    print(place)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data-dir", type=Path, default=Path(".data"))
    parser.add_argument("--run", default="", help="take this run's page, and start no work")
    parser.add_argument("--width", type=int, choices=list(WIDTHS), help="only this one")
    options = parser.parse_args()
    system = System(options.data_dir, options.port)
    run = options.run or system.make_work()
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for width in [options.width] if options.width else WIDTHS:
            page = signed_in(browser, system, width)
            links = page.eval_on_selector_all("#side a", "all => all.map(one => new URL(one.href).pathname)")
            for link in [*links, "/runs/new/", *([f"/runs/{run}/"] if run else [])]:
                take(page, system, link, width)
        browser.close()


if __name__ == "__main__":
    main()
