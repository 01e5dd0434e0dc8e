"""Remote agents and their tokens: the only writer of :class:`Agent`. A token is shown once and kept as a hash."""

from automation.agents.registry import OBEYING, TOKEN_PREFIX, actor_of, answered, change, issue, of_token, seen

__all__ = ["OBEYING", "TOKEN_PREFIX", "actor_of", "answered", "change", "issue", "of_token", "seen"]
