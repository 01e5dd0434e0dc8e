"""Counts and times for a StatsD server by UDP: sent once, without a response, and without waiting.

Needs the package ``python-statsd`` (requirements-statsd.txt) and the option ``statsd_url``: ``udp://host:8125/prefix``.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

from pause_manager import conf

TRY_AGAIN_SECONDS = 60.0
"""After a host could not be found or the package is missing."""
DEFAULT_PORT = 8125

_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")

_connection: tuple[str, Any] | None = None
_away_until = 0.0


def send(name: str, labels: str, value: str) -> None:
    """Send one value if there is a server; plain StatsD has no labels, so their values are parts of the name."""
    global _connection, _away_until
    url = conf.settings().statsd_url
    if not url or time.monotonic() < _away_until:
        return
    parts = urlsplit(url)
    if _connection is None or _connection[0] != url:
        _away_until = time.monotonic() + TRY_AGAIN_SECONDS
        _connection = (url, _connected(parts.hostname or "localhost", parts.port or DEFAULT_PORT))
        _away_until = 0.0
    _connection[1].send({_dotted(parts.path.strip("/"), name, labels): value})


def _connected(host: str, port: int) -> Any:
    import statsd  # a library that most processes never need

    connection = statsd.Connection(host, port)
    connection.udp_sock.setblocking(False)
    return connection


def _dotted(prefix: str, name: str, labels: str) -> str:
    """``slackwater_items_failed_total`` of ``content`` and ``ideas``: ``slackwater.items_failed.content.ideas``."""
    bare = re.sub("_(total|seconds)$", "", name.removeprefix("slackwater_"))
    values = json.loads(labels).values() if labels else ()
    return ".".join([prefix or "slackwater", bare, *(_UNFIT.sub("_", value) or "none" for value in values)])
