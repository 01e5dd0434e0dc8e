"""Erase the events of an account's deleted runs, except that they were deleted, by whom and why."""

from __future__ import annotations

from automation.models import Account
from automation.models.tables import RUN
from automation.retention.deletion import DELETED, PURGED
from pause_manager.actor import Actor
from pause_manager.observability import audit

# Events of an account are those of its runs.
_OF_DELETED_RUNS = f"""
    event.tenant = %(account)s AND event.action NOT IN ('{DELETED}', '{PURGED}')
    AND NOT EXISTS (SELECT 1 FROM {RUN} AS run WHERE run.id = substr(event.scope, 5)::uuid)
"""


def erase_events(account: Account, *, actor: Actor, reason: str) -> int:
    """Erase the events of the purged runs of ``account``; returns how many."""
    values = {"account": account.pk}
    return audit.erase_where(_OF_DELETED_RUNS, values, actor=actor, reason=reason, details={"account": account.name})
