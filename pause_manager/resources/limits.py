"""How much of a resource may be used at once now: SQL over ``resource``, and the values that a statement with it needs.

A resource that said "too much" is let alone under a hold. After that one piece of work may use it (``probing``), and
once that was answered twice as many with each step (``ramping``). The lesser of that and ``max_at_once`` is in force.
"""

from __future__ import annotations

from typing import Any

from pause_manager import conf
from pause_manager.models import Resource

RESOURCE = Resource._meta.db_table

SOON_SECONDS = 2.0
"""For a start that is so near by ``max_per_minute``, who wants it waits; for a later one nothing begins."""

_MOST_STEPS = 20

PERMITTED = f"""
    CASE resource.state
         WHEN 'open' THEN NULL
         WHEN 'ramping' THEN (2 ^ least({_MOST_STEPS}, 1 + floor(
              extract(epoch FROM statement_timestamp() - resource.ramping_since) / %(ramp_seconds)s::float8)))::int
         ELSE 1
    END
"""
"""How many may use it at once because of what it said; null: no limit."""

LIMIT = f"least(resource.max_at_once, {PERMITTED})"
"""How many may use it at once; null: no limit."""

IS_LIMITED = "(resource.state <> 'open' OR resource.max_at_once IS NOT NULL OR resource.max_per_minute IS NOT NULL)"

STARTS_LATER = f"""
    (resource.max_per_minute IS NOT NULL
     AND resource.next_start_at > statement_timestamp() + make_interval(secs => {SOON_SECONDS}))
"""
"""By ``max_per_minute`` the next start is not near."""


def values() -> dict[str, Any]:
    """What a statement with these is given."""
    return {"ramp_seconds": conf.settings().ramp_seconds}
