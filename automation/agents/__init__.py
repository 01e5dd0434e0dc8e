"""Remote agents and their tokens: the only writer of :class:`Agent`. A token is shown once and stored as a hash."""

from automation.agents.registry import (
    MEMBERS,
    TOKEN_PREFIX,
    actor_of,
    change,
    find_by_token,
    issue,
    note_seen,
    system_block,
)

__all__ = ["MEMBERS", "TOKEN_PREFIX", "actor_of", "change", "find_by_token", "issue", "note_seen", "system_block"]
