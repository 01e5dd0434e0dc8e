"""What open pages cost: 200 browsers on one web process, in cores, and in statements beyond those without any.

``DATA_DIR=… python -m benchmarks.streams --port 8000`` against a system that is running. Each browser is a connection
with the stream of the fleet page, the overview, the badge and the banner. Transactions are those of the database,
workers and beat included, so the same time without a browser is measured first.
"""

from __future__ import annotations

import argparse
import asyncio
import http.cookiejar
import json
import os
import re
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import django
import psutil
from django.db import connection

BROWSERS = 200
SECONDS = 30.0
TOPICS = ("fleet", "overview", "fleet-badge", "fleet-banner")


@dataclass
class Browser:
    """One stream, and what came over it."""

    updates: int = 0
    status: str = ""

    async def follow(self, port: int, cookie: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        topics = "&".join(f"topic={topic}" for topic in TOPICS)
        writer.write(
            f"GET /events/?{topics} HTTP/1.1\r\nHost: localhost:{port}\r\nCookie: {cookie}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        try:
            self.status = (await reader.readline()).decode().strip()
            while line := await reader.readline():
                self.updates += line.startswith(b"data: ")
        finally:
            writer.close()


def signed_in(port: int, data_dir: Path) -> str:
    """The cookie of a session of the system's operator."""
    known = json.loads((data_dir / "credentials.json").read_text(encoding="utf-8"))
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    url = f"http://localhost:{port}/sign-in/"
    form = opener.open(url).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    assert token is not None, "the sign-in page has no form"
    given = {"csrfmiddlewaretoken": token[1], "username": known["username"], "password": known["password"]}
    opener.open(urllib.request.Request(url, urllib.parse.urlencode(given).encode(), {"Referer": url}))
    return "; ".join(f"{one.name}={one.value}" for one in jar)


def web_process(port: int) -> psutil.Process:
    """The process that listens on ``port``."""
    for found in psutil.net_connections(kind="tcp"):
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr[1] == port and found.pid:
            return psutil.Process(found.pid)
    raise SystemExit(f"Cannot measure: nothing listens on port {port}. Start the system: make up PORT={port}.")


def commits() -> int:
    """Transactions of the database so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        (found,) = cursor.fetchone()
    return int(found)


async def measured(process: psutil.Process, seconds: float) -> tuple[float, float]:
    """Cores that the process uses, and transactions per second, over ``seconds``."""
    before, cpu, began = await asyncio.to_thread(commits), sum(process.cpu_times()[:2]), time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    return (sum(process.cpu_times()[:2]) - cpu) / took, (await asyncio.to_thread(commits) - before) / took


async def measure(port: int, browsers: int, seconds: float, cookie: str) -> None:
    process = web_process(port)
    idle = await measured(process, seconds)
    print(f"no browser:   {idle[0]:5.2f} cores, {idle[1]:7.1f} transactions per second")
    crowd = [Browser() for _ in range(browsers)]
    tasks = [asyncio.create_task(one.follow(port, cookie)) for one in crowd]
    await asyncio.sleep(10)
    start = sum(one.updates for one in crowd)
    busy = await measured(process, seconds)
    updates = (sum(one.updates for one in crowd) - start) / seconds
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    live = sum("200" in one.status for one in crowd)
    print(f"{live} browsers: {busy[0]:5.2f} cores, {busy[1]:7.1f} transactions and {updates:,.0f} updates per second")
    print(f"transactions per second and browser: {(busy[1] - idle[1]) / max(1, live):.3f}")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--browsers", type=int, default=BROWSERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings.dev")
    django.setup()
    cookie = signed_in(options.port, Path(os.environ.get("DATA_DIR", ".data")))
    asyncio.run(measure(options.port, options.browsers, options.seconds, cookie))


if __name__ == "__main__":
    main()
