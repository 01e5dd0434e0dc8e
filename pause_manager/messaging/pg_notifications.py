"""The doorbell in PostgreSQL: a notification with its content, sent by the transaction that changes a hold.

It arrives when that transaction commits and never when it rolls back, two hops sooner than Redis: the committing server
process rings, and nobody has to wake up first. Through PgBouncer in transaction mode it is not heard; Redis is, and the
poll stands behind both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

CHANNEL = "slackwater_holds"
_REASON = 500
"""Characters of a reason that are told at once; all of it is read a moment later."""
_LONGEST = 7_000
"""PostgreSQL takes fewer than 8,000 bytes."""


@dataclass(frozen=True)
class Notification:
    """What changed: the holds on ``scopes`` were ``placed``, ``altered`` or ``released``, or something else about them
    has ``changed``. No scopes: look at all."""

    change: str
    scopes: tuple[str, ...]
    mode: str = ""
    kind: str = ""
    reason: str = ""


def notify(change: str, scopes: Sequence[str], mode: str = "", *, kind: str = "", reason: str = "") -> None:
    """Have every listener told, once and only if the caller's transaction commits."""
    told = {"change": change, "scopes": sorted(set(scopes)), "mode": mode, "kind": kind, "reason": reason[:_REASON]}
    payload = json.dumps(told)
    if len(payload.encode()) > _LONGEST:
        payload = json.dumps({**told, "scopes": [], "reason": ""})
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])


def listen(raw: Any) -> None:
    """Have ``raw``, a psycopg connection in autocommit, hear the doorbell."""
    raw.execute(f"LISTEN {CHANNEL}")


def received(raw: Any) -> Iterator[Notification]:
    """The rings that have arrived at ``raw``. Never waits."""
    payloads = [one.payload for one in raw.notifies(timeout=0) if one.channel == CHANNEL]
    # What came in one packet with the answer to a statement: the driver looks for it only when more comes.
    while (left := raw.pgconn.notifies()) is not None:
        if left.relname.decode() == CHANNEL:
            payloads.append(left.extra.decode())
    for payload in payloads:
        told = json.loads(payload)
        # A host of the last release knows no kinds and reasons.
        yield Notification(
            told["change"], tuple(told["scopes"]), told["mode"], told.get("kind", ""), told.get("reason", "")
        )
