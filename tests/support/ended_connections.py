"""What a restart or failover of PostgreSQL, a pooler or an idle time-out does to open connections."""

from __future__ import annotations

from django.db import connection


def end_other_connections() -> int:
    """End every connection to the database of the test but this thread's; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        ended: int = cursor.fetchone()[0]
    return ended
