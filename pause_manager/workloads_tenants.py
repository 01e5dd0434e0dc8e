"""Whose a scope is. Who knows of tenants registers what tells; this app alone knows none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Q
from django.db.models.expressions import Combinable

Teller = Callable[[str], Combinable | None]
"""Given a scope, the SQL that finds its tenant (a number) when an event is written; ``None`` if it has none."""

_tellers: list[Teller] = []


def register(teller: Teller) -> Teller:
    """Have ``teller`` asked of every event that is written; usable as a decorator."""
    _tellers.append(teller)
    return teller


def of(scope: str) -> Combinable | None:
    """The SQL of the first that knows."""
    return next((found for teller in _tellers if (found := teller(scope)) is not None), None)


Hider = Callable[[Any], Q]
"""Given a user, a condition on ``scope``: what it matches is other tenants', who are not to be heard of."""

_hiders: list[Hider] = []


def register_hider(hider: Hider) -> Hider:
    """Have ``hider`` asked which scopes a user does not see; usable as a decorator."""
    _hiders.append(hider)
    return hider


def hidden_from(user: Any) -> Q:
    """A condition on ``scope``: what ``user`` does not see."""
    found = Q(pk__in=[])
    for hider in _hiders:
        found |= hider(user)
    return found


Knower = Callable[[Any], set[str]]
"""Given a user, the names of the agents that are their own tenants'."""

_knowers: list[Knower] = []


def register_knower(knower: Knower) -> Knower:
    """Have ``knower`` asked which agents a user may hear of; usable as a decorator."""
    _knowers.append(knower)
    return knower


def agents_of(user: Any) -> set[str]:
    """The names of the agents that ``user`` may hear of."""
    return {name for knower in _knowers for name in knower(user)}
