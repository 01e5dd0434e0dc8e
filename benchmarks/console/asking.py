"""A real ASGI server, people who are signed in, and how long each of their pages takes."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from benchmarks.harness import ROOT, percentile

PASSWORD = "a benchmark"
STARTED_SECONDS = 60
_COOKIE = re.compile(r"^([^=]+)=([^;]*)")


@dataclass
class Browser:
    """One person's browser: it keeps the cookies, and reads the first bytes of what it asks for, or all of it."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, *, first_bytes: bool = False) -> tuple[int, float, bytes]:
        """The status, the milliseconds until the answer was here, and the answer."""
        return self._ask("GET", path, None, first_bytes=first_bytes)

    def sign_in(self, name: str) -> None:
        _, _, form = self.get("/sign-in/")
        token = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert token is not None, "the sign-in page has no form"
        given = {"csrfmiddlewaretoken": token[1].decode(), "username": name, "password": PASSWORD}
        status, _, _ = self._ask("POST", "/sign-in/", urllib.parse.urlencode(given))
        assert status == 302, f"{name} cannot sign in: {status}"

    def _ask(self, method: str, path: str, body: str | None, *, first_bytes: bool = False) -> tuple[int, float, bytes]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            headers |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Referer": f"http://127.0.0.1:{self.port}/",
            }
        begun = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read1(1_000) if first_bytes else answer.read()
            spent = (time.perf_counter() - begun) * 1_000
        finally:
            connection.close()
        for one in answer.headers.get_all("Set-Cookie", []):
            if found := _COOKIE.match(one):
                self.cookies[found[1]] = found[2]
        return answer.status, spent, content


@dataclass(frozen=True)
class Asked:
    """How long a page took, in milliseconds, and the statement that took most of it."""

    who: str
    label: str
    path: str
    p50: float
    p95: float
    statement_ms: float
    statement: str
    statements: int
    """For one page."""
    cpu_ms: float
    """That the web process and the database computed for one page: how long it takes where nothing else runs."""

    def __str__(self) -> str:
        slowest = f"{self.statement_ms:6.1f} ms in {' '.join(self.statement.split())[:90]}" if self.statement else ""
        figures = f"{self.p50:7.0f} {self.p95:7.0f} {self.cpu_ms:7.0f} {self.statements:4}"
        return f"{self.who:9} {self.label[:58]:58} {figures} {slowest}"


@contextmanager
def server() -> Iterator[tuple[int, psutil.Process]]:
    """A uvicorn as ``manage.py up`` starts it, on a port of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "backend.asgi:application", "--port", str(port)]
    command += ["--log-level", "warning", "--lifespan", "off", "--no-proxy-headers"]
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        _wait_until_it_answers(port, child)
        yield port, psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(20)


def _wait_until_it_answers(port: int, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTED_SECONDS
    while True:
        try:
            if Browser(port).get("/healthz")[0] == 200:
                return
        except OSError:
            if child.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the web process did not start") from None
        time.sleep(0.2)


def ask(browser: Browser, cpu: Callable[[], float], who: str, label: str, path: str, rounds: int) -> Asked:
    """Ask for a page ``rounds`` times, after once that does not count."""
    first_bytes = "/export/" in path
    status, _, _ = browser.get(path, first_bytes=first_bytes)
    if status != 200:
        raise RuntimeError(f"expected the page {path} for {who}, got status {status}")
    _forget_statements()
    before = cpu()
    spent = sorted(browser.get(path, first_bytes=first_bytes)[1] for _ in range(rounds))
    computed = (cpu() - before) * 1_000 / rounds
    slowest, statement, count = _slowest_statement()
    halfway, late = percentile(spent, 0.5), percentile(spent, 0.95)
    return Asked(who, label, path, halfway, late, slowest, statement, round(count / rounds), computed)


def cpu_of(web: psutil.Process, postmaster: psutil.Process) -> float:
    """CPU seconds of the web process, and of the database's backends that have ended: each request has its own."""
    ended = postmaster.cpu_times()
    return float(sum(web.cpu_times()[:2]) + ended.children_user + ended.children_system)


def _forget_statements() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_statements_reset()")


def _slowest_statement() -> tuple[float, str, int]:
    """Milliseconds of a call and the text of the statement that took longest, and how many there were."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT mean_exec_time, query, sum(calls) OVER ()::bigint FROM pg_stat_statements "
            "WHERE query NOT LIKE '%pg_stat_statements%' AND toplevel ORDER BY mean_exec_time DESC LIMIT 1"
        )
        return cursor.fetchone() or (0.0, "", 0)
