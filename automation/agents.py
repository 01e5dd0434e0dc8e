"""Remote agents and their tokens: the only writer of :class:`Agent`. A token is shown once and kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from automation.models import Agent
from pause_manager import audit
from pause_manager.actor import Actor

TOKEN_PREFIX = "swa_"
SEEN_EVERY = timedelta(seconds=10)
"""``last_seen_at`` is no more exact than this, so that a poll seldom writes."""


def issue(agent: Agent, *, actor: Actor, reason: str = "") -> str:
    """Save ``agent`` (a new one, or one that is there) with a new token and return that; an old one ends at once."""
    action = "agent_created" if agent.pk is None else "agent_token_rotated"
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    agent.token_hash = _hash(token)
    _save(agent, action, actor=actor, reason=reason)
    return token


def change(agent: Agent, *, actor: Actor, changed: Sequence[str]) -> None:
    """Save what was changed in ``agent``; its token stays."""
    _save(agent, "agent_changed", actor=actor, figures={"changed": list(changed), "enabled": agent.is_enabled})


def _save(agent: Agent, action: str, *, actor: Actor, reason: str = "", figures: dict[str, Any] | None = None) -> None:
    agent.node = agent.node or agent.name
    scope = {"pipelines": agent.pipelines, "account": agent.account.name, "site": agent.site and agent.site.slug}
    with transaction.atomic():
        agent.save()
        known = {**scope, "node": agent.node, **(figures or {})}
        audit.record(action, scope=f"agent:{agent.name}", actor=actor, reason=reason, figures=known)


def of_token(token: str) -> Agent | None:
    """The agent, enabled or not, whose token this is."""
    return Agent.objects.select_related("account", "site").filter(token_hash=_hash(token)).first()


def actor_of(agent: Agent, *, channel: str, request_id: str = "") -> Actor:
    """``agent`` as the one who acts through ``channel``."""
    return Actor(f"agent:{agent.name}", channel, request_id)


def seen(agent: Agent) -> None:
    """Note that ``agent`` was heard of."""
    lately = Q(last_seen_at__gt=Now() - SEEN_EVERY)
    Agent.objects.filter(pk=agent.pk).exclude(lately).update(last_seen_at=Now())


def _hash(token: str) -> str:
    # A token is 256 random bits: there is nothing to guess, so nothing to make slow.
    return hashlib.sha256(token.encode()).hexdigest()
