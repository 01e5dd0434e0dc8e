"""What an error of the database means, and a connection that a long-lived thread of ours owns."""

from pause_manager.database.session import (
    close,
    describe,
    explain,
    is_away,
    is_refused,
    is_usable,
    log_outage,
    own_connection,
    skip_if_away,
    sqlstate,
)

__all__ = [
    "close",
    "describe",
    "explain",
    "is_away",
    "is_refused",
    "is_usable",
    "log_outage",
    "own_connection",
    "skip_if_away",
    "sqlstate",
]
