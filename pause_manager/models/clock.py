"""The one clock: the database's."""

from __future__ import annotations

from datetime import datetime

from django.db import connection


def database_now() -> datetime:
    """Return the time of the statement, with its time zone."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def database_seconds() -> float:
    """Return the database's time in seconds since the epoch."""
    return database_now().timestamp()
