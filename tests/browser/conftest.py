"""A real browser in front of a real web process and a real worker."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

from backend.embedded import die_with_parent

REPOSITORY = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """An installed Chromium or Chrome, else the one that Playwright fetched, else a skip."""
    # Playwright's loop runs in this thread, and Django takes that for asynchronous code.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        try:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except Error as error:
            if path is not None:
                raise
            pytest.skip(f"no Chromium was found ({str(error).splitlines()[0]}): run 'make browser'")
        yield browser
        browser.close()


@dataclass
class System:
    """A web process and a stage worker that share the test's database and Redis."""

    env: dict[str, str]
    root: Path
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str, **env: str) -> None:
        web = [
            "-m",
            "uvicorn",
            "backend.asgi:application",
            "--port",
            str(self.port),
            "--lifespan",
            "off",
            "--no-proxy-headers",
        ]
        worker = [
            "-m",
            "celery",
            "-A",
            "backend",
            "worker",
            "-Q",
            "stages",
            "-P",
            "threads",
            "-c",
            "2",
            "-l",
            "WARNING",
        ]
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *(web if name == "web" else worker)],
                cwd=REPOSITORY,
                env=self.env | env,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def wait_for_web(self, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        raise AssertionError((self.root / "web.log").read_text()[-3000:])

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)


@pytest.fixture
def system(process_env: dict[str, str], tmp_path: Path) -> Iterator[System]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    running = System(process_env, tmp_path, port)
    try:
        running.start("web")
        running.start("worker")
        running.wait_for_web()
        yield running
    finally:
        running.stop()


@dataclass
class Watched:
    """A page, what its console complained of, and every host it asked."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self.hosts.add(asked.url.split("/")[2]))

    def _on_console(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.complaints.append(said.text)


@pytest.fixture
def visit(chromium: Browser, system: System) -> Iterator[Callable[..., Watched]]:
    """Open the console as a user; the context is closed after the test."""
    contexts: list[Any] = []

    def open_page(user: str, password: str, path: str = "/runs/", **options: Any) -> Watched:
        context = chromium.new_context(viewport={"width": 1440, "height": 900}, **options)
        contexts.append(context)
        context.set_default_timeout(15_000)
        watched = Watched(context.new_page())
        watched.page.goto(f"{system.url}{path}")
        watched.page.get_by_label("User name").fill(user)
        watched.page.get_by_label("Password").fill(password)
        watched.page.get_by_role("button", name="Sign in").click()
        watched.page.wait_for_selector("main.wide-page")
        return watched

    yield open_page
    for context in contexts:
        context.close()
