"""Remote agents and their tokens: the only writer of :class:`Agent`. A token is shown once and stored as a hash.

An agent that received a version of the fleet switch obeys that version: its claims are refused here, and for its jobs
it is told to stop. So sending the version counts as its acknowledgement.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from automation.models import Agent
from automation.models.tables import SLICE
from pause_manager import fleet
from pause_manager.actor import Actor
from pause_manager.holds.fleet_state import FleetState
from pause_manager.models.clock import database_now
from pause_manager.nodes import members
from pause_manager.observability import audit, metrics
from pause_manager.workloads import AGENT, Member

TOKEN_PREFIX = "swa_"
SEEN_EVERY = timedelta(seconds=10)
"""Precision of ``last_seen_at``, so that a poll seldom writes."""


def issue(agent: Agent, *, actor: Actor, reason: str = "") -> str:
    """Save ``agent``, new or existing, with a new token and return the token; an old one stops working at once."""
    action = "agent_created" if agent.pk is None else "agent_token_rotated"
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    agent.token_hash = _hash(token)
    _save(agent, action, actor=actor, reason=reason)
    return token


def change(agent: Agent, *, actor: Actor, changed: Sequence[str]) -> None:
    """Save changes of ``agent``; its token stays."""
    _save(agent, "agent_changed", actor=actor, details={"changed": list(changed), "enabled": agent.is_enabled})


def _save(agent: Agent, action: str, *, actor: Actor, reason: str = "", details: dict[str, Any] | None = None) -> None:
    agent.node = agent.node or agent.name
    scope = {"pipelines": agent.pipelines, "account": agent.account.name, "site": agent.site and agent.site.slug}
    with transaction.atomic():
        agent.save()
        known = {**scope, "node": agent.node, **(details or {})}
        audit.record(action, scope=f"agent:{agent.name}", actor=actor, reason=reason, details=known)


def find_by_token(token: str) -> Agent | None:
    """Return the agent with this token, enabled or not."""
    return Agent.objects.select_related("account", "site").filter(token_hash=_hash(token)).first()


def actor_of(agent: Agent, *, channel: str, request_id: str = "") -> Actor:
    """Return ``agent`` as the actor on ``channel``."""
    return Actor(f"agent:{agent.name}", channel, request_id)


def note_seen(agent: Agent) -> None:
    """Record that ``agent`` was seen."""
    lately = Q(last_seen_at__gt=Now() - SEEN_EVERY)
    Agent.objects.filter(pk=agent.pk).exclude(lately).update(last_seen_at=Now())


def system_block(agent: Agent, state: FleetState | None = None) -> dict[str, Any]:
    """The ``system`` block of a response to ``agent``, which acknowledges it: of ``state``, else of the current state.

    Nothing is read or written while the version is the one it acknowledged before.
    """
    state = state or fleet.state()
    if state.is_readable and agent.acknowledged_version < state.version:
        metrics.guarded(_acknowledge)(agent, state.version)
    return state.as_dict()


def _acknowledge(agent: Agent, version: int) -> None:
    # The guard is for a response that was overtaken by a later one.
    older = Agent.objects.filter(pk=agent.pk, acknowledged_version__lt=version)
    older.update(acknowledged_version=version, acknowledged_at=Now(), last_seen_at=Now())
    agent.acknowledged_version = version


def rename_machine(old: str, new: str) -> None:
    """Rename the node of agents on a machine that is renamed."""
    of_node = Agent.objects.filter(node=old).order_by("pk").select_for_update(no_key=True)
    Agent.objects.filter(pk__in=[agent.pk for agent in of_node.only("pk")]).update(node=new)


def members_that_obey() -> Iterable[Member]:
    """The agents that must obey: those seen lately, and those that hold a valid lease, however silent.

    A disabled agent holds no lease and is forgotten like a worker; its token claims no job meanwhile.
    """
    gone = timedelta(seconds=members.gone_seconds()) + SEEN_EVERY
    with connection.cursor() as cursor:
        cursor.execute(MEMBERS, [gone.total_seconds()])
        return [Member(AGENT, *row) for row in cursor.fetchall()]


def silent_since(agent: Agent) -> datetime | None:
    """When ``agent`` last called, or was made if it never has, if that is too long ago to count it as live."""
    gone = timedelta(seconds=members.gone_seconds()) + SEEN_EVERY
    at = agent.last_seen_at or agent.created_at
    return at if at < database_now() - gone else None


def _hash(token: str) -> str:
    # A token is 256 random bits: it cannot be guessed, so a slow hash is not needed.
    return hashlib.sha256(token.encode()).hexdigest()


MEMBERS = f"""
    SELECT 'agent:' || agent.name, agent.node, agent.acknowledged_version, seen.at,
           extract(epoch FROM statement_timestamp() - seen.at)::float
      FROM {Agent._meta.db_table} AS agent
     CROSS JOIN LATERAL (SELECT coalesce(agent.last_seen_at, agent.created_at) AS at) AS seen
     WHERE (agent.is_enabled AND agent.last_seen_at >= statement_timestamp() - make_interval(secs => %s))
        OR 'agent:' || agent.name IN (
            SELECT split_part(lease_owner, '/', 1) FROM {SLICE}
             WHERE lease_token IS NOT NULL AND finished_at IS NULL AND lease_expires_at >= statement_timestamp())
     ORDER BY agent.name
"""
