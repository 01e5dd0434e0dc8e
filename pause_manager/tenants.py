"""Whose a scope is. Who knows of tenants registers what tells; this app alone knows none."""

from __future__ import annotations

from collections.abc import Callable

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
