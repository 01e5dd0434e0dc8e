"""The gate: why a run may not proceed. It reads the local database only, and what cannot be read forbids."""

from automation.gate.decision import (
    CODES,
    GIVES_WAY,
    OPEN,
    Reason,
    blocked,
    explain,
    may_proceed,
    may_start,
    scopes_at_work,
    scopes_of,
    values,
)

__all__ = [
    "CODES",
    "GIVES_WAY",
    "OPEN",
    "Reason",
    "blocked",
    "explain",
    "may_proceed",
    "may_start",
    "scopes_at_work",
    "scopes_of",
    "values",
]
