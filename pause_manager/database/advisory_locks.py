"""Locks by a name, for what no row stands for: they end with the transaction."""

from __future__ import annotations

from django.db import connection

_POLL = "slackwater poll"


def lock(what: str) -> bool:
    """Take ``what`` for this transaction; False if somebody else has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [what])
        return bool(cursor.fetchone()[0])


def lock_poll() -> bool:
    """Take the poll for this transaction; False if another poller has it."""
    return lock(_POLL)


def exclude_polls() -> None:
    """No poll is in progress, and none begins, until the caller's transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [_POLL])
