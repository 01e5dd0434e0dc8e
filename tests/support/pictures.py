"""Pictures of every page of the console, from a real system: ``make pictures`` (docs/images, docs/howto/console.md).

This starts a system of its own with the shop of ``shown_shop``, has it work until there is something to see, and takes
each page of the navigation at the width of a desk and of a phone: light ones for the documentation, and dark ones, to
look at, in ``build/pictures``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from backend.embedded import die_with_parent
from tests.support import shown_shop

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = {"light": REPOSITORY / "docs" / "images", "dark": REPOSITORY / "build" / "pictures"}
WIDTHS = {1440: 900, 390: 844}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RUNS = "/automation/runs/"
PAUSED_AT = 40.0
"""Percent of the run whose page is taken."""
MOST_SECONDS = 240
OTHERS = "memory = bytearray(3 * 2**30); memory[::4096] = b'x' * len(memory[::4096]); import time; time.sleep(3600)"
"""What somebody else runs on the machine."""


class System:
    """A running system, as its operator has it: the API, and the shell beside it."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.env = {**os.environ, "DATA_DIR": str(data_dir), "SLACKWATER_APPS": shown_shop.__name__}
        self.data_dir, self.port, self.url = data_dir, port, f"http://localhost:{port}"

    @contextmanager
    def up(self) -> Iterator[None]:
        """Start it, and stop it at the end."""
        command = [sys.executable, "manage.py", "up", "--port", str(self.port), "--concurrency", "4"]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=self.env, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGINT)
        )
        try:
            self._wait_until_ready(process)
            found = json.loads((self.data_dir / "credentials.json").read_text(encoding="utf-8"))
            self.username, self.password, self.token = found["username"], found["password"], found["token"]
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + MOST_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.5)
        raise SystemExit(f"Cannot take pictures: the system on port {self.port} did not become ready.")

    def manage(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=REPOSITORY, env=self.env, check=True)

    def shop(self, verb: str) -> None:
        """Carry out one verb of ``shown_shop.setting``."""
        self.manage("shell", "--no-imports", "-c", f"from tests.support.shown_shop import setting; setting.{verb}()")

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read or, with a ``body``, command."""
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/api/v1{path}", data, headers), timeout=60
        ) as got:
            told: dict[str, Any] = json.load(got)
            return told

    def start(self, **params: Any) -> str:
        body = {"pipeline": "catalogue", "site": "default", "params": params}
        return str(self.ask(RUNS, body)["id"])

    def wait_for(self, run: str, percentage: float) -> None:
        deadline = time.monotonic() + MOST_SECONDS
        while time.monotonic() < deadline:
            if self.ask(f"{RUNS}{run}/progress/")["overall"]["percentage"] >= percentage:
                return
            time.sleep(1)
        raise SystemExit(f"Cannot take pictures: run {run} is not at {percentage:g} % after {MOST_SECONDS} s.")

    def make_work(self) -> str:
        """Have work run, wait, stop and fail; returns the run whose page is taken: paused, with who and why."""
        self.shop("before_the_runs")
        # On a machine that is busy with others the runs would wait; their share is shown all the same.
        self.manage("capacity", "off")
        first = self.start(products=70, seconds=0.1)
        self.wait_for(first, 100)
        shown = self.start(products=260, seconds=0.45)
        self.wait_for(shown, 12)
        self.ask(f"{RUNS}{shown}/pause/", {"reason": "The pictures of the autumn range come first"})
        time.sleep(12)
        self.ask(f"{RUNS}{shown}/resume/", {"reason": "They are done"})
        self.manage("hold", "place", "resource:mail-api", "--reason", "The provider moves to another address")
        self.shop("tasks")
        self.wait_for(shown, PAUSED_AT)
        self.ask(f"{RUNS}{shown}/pause/", {"reason": "The render farm is needed until six"})
        working = self.start(products=4_000, seconds=0.5)
        for products in (120, 300, 40):
            self.start(products=products)
        self.manage(
            *("schedule", "add", "default/nightly", "catalogue", "--at", "02:00", "--weekdays", "mon-fri"),
            *("--time-zone", "Europe/Berlin", "--enable"),
        )
        self.manage("schedule", "add", "default/new-arrivals", "catalogue", "--every", "6h", "--enable")
        self.manage(
            *("window", "add", "backup", "queue:reports", "--at", "01:30", "--for", "45m"),
            *("--reason", "The database is backed up"),
        )
        self.ask("/holds/", {"scopes": ["queue:reports"], "reason": "Upgrade of the report server"})
        self.manage("capacity", "on")
        time.sleep(15)
        # It goes on although others use the machine: as an operator would have it.
        subprocess.run(
            [sys.executable, "manage.py", "resume_run", working, "--force", "--reason", "The catalogue is due at six"],
            cwd=REPOSITORY,
            env=self.env,
            check=False,
        )
        time.sleep(10)
        return shown


def signed_in(browser: Browser, system: System, width: int, scheme: str) -> Page:
    viewport = {"width": width, "height": WIDTHS[width]}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{system.url}/sign-in/")
    page.screenshot(path=IMAGES[scheme] / f"console-sign-in-{width}.png")
    page.get_by_label("User name").fill(system.username)
    page.get_by_label("Password").fill(system.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("main.wide-page")
    return page


def take(page: Page, system: System, path: str, name: str, width: int, scheme: str) -> None:
    page.goto(f"{system.url}{path}")
    page.wait_for_timeout(2_500)
    height = min(int(page.evaluate("document.documentElement.scrollHeight")), 2 * WIDTHS[width])
    page.set_viewport_size({"width": width, "height": max(WIDTHS[width], height)})
    page.screenshot(path=IMAGES[scheme] / f"console-{name}-{width}.png")
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    print(IMAGES[scheme] / f"console-{name}-{width}.png", flush=True)


def take_all(system: System, run: str, schemes: list[str]) -> None:
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for scheme in schemes:
            IMAGES[scheme].mkdir(parents=True, exist_ok=True)
            for width in WIDTHS:
                page = signed_in(browser, system, width, scheme)
                links = page.eval_on_selector_all("#side a", "all => all.map(one => new URL(one.href).pathname)")
                names = {"/": "overview"} | {link: link.strip("/").replace("/", "-") for link in links if link != "/"}
                names |= {"/runs/new/?pipeline=catalogue": "runs-new", f"/runs/{run}/": "run"}
                for link, name in names.items():
                    take(page, system, link, name, width, scheme)
                page.context.close()
        browser.close()


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--scheme", choices=list(IMAGES), help="only this one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pictures-") as directory:
        system = System(Path(directory), options.port)
        with system.up(), subprocess.Popen([sys.executable, "-c", OTHERS], start_new_session=True) as others:
            try:
                take_all(system, system.make_work(), [options.scheme] if options.scheme else list(IMAGES))
            finally:
                others.kill()


if __name__ == "__main__":
    main()
