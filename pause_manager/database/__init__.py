"""What an error of the database means, and a connection that a long-lived thread of ours owns."""

from pause_manager.database.session import (
    close,
    is_away,
    is_refused,
    is_usable,
    note_away,
    own_connection,
    sentence,
    sqlstate,
    told,
    waited_for,
)

__all__ = [
    "close",
    "is_away",
    "is_refused",
    "is_usable",
    "note_away",
    "own_connection",
    "sentence",
    "sqlstate",
    "told",
    "waited_for",
]
