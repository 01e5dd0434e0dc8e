"""The fleet switch: drain, quiesce, resume. What HTTP, the shell and every later door call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from pause_manager import holds
from pause_manager.actor import Actor
from pause_manager.errors import FleetRefused, InvalidFleetCommand
from pause_manager.fleet import drain, report
from pause_manager.fleet.drain import Metrics
from pause_manager.holds import fleet_state
from pause_manager.holds.fleet_state import FLEET, FleetState
from pause_manager.models import Hold
from pause_manager.models.clock import database_now
from pause_manager.nodes import members
from pause_manager.observability import audit

logger = logging.getLogger("pause_manager.fleet.switch")

UNCHANGED, NOT_PAUSED, NOT_DRAINED = "worker_pause_unchanged", "worker_pause_not_paused", "worker_pause_not_drained"

_warned: set[tuple[int, str]] = set()
"""What this process has warned of: (version, worker)."""


def state() -> FleetState:
    """Whether the fleet is paused; what cannot be read counts as paused. One read of one row."""
    return fleet_state.read()


def snapshot(*, latest: int = 5, with_blockers: bool = True, agents: set[str] | None = None) -> dict[str, Any]:
    """All that an operator sees: ``system``, metrics, workers, warnings, commands and the ``latest`` changes.

    A constant number of statements. ``with_blockers``: tell whose work is in progress, too. ``agents``: the only ones
    that it may name.
    """
    now = state()
    return report.snapshot(now, drain.measure(now.mode), latest=latest, with_blockers=with_blockers, agents=agents)


def pause(
    *,
    mode: str,
    reason: str,
    actor: Actor,
    deadline: timedelta | None = None,
    idempotency_key: str = "",
    confirmation: str = "",
) -> FleetState:
    """Pause the fleet, or give the pause another mode, reason or deadline: after that a drain becomes a quiesce.

    Raises ``InvalidFleetCommand``, or ``FleetRefused`` if it is paused just so already (by another call: the same
    ``idempotency_key`` gets the same answer).
    """
    _check(reason, mode, deadline)
    with _refusal_on_record("pause", actor, reason), transaction.atomic():
        before = fleet_state.lock()
        ends: dict[str, Any] = {"expires_at": _ends_at(deadline), "on_expiry": Hold.OnExpiry.QUIESCE}
        asked = {"mode": mode, "actor": actor, "reason": reason, "idempotency_key": idempotency_key, **ends}
        details = {FLEET: {**_counts(drain.measure(mode)), "confirmation": confirmation}}
        if before.is_paused:
            held = Hold.objects.covering([FLEET]).get(kind=Hold.Kind.OPERATOR)
            if idempotency_key and held.idempotency_key == idempotency_key:
                return before
            if (held.mode, held.reason) == (mode, reason) and deadline is None and held.expires_at is None:
                raise FleetRefused(UNCHANGED, f"Cannot pause the fleet: it is paused ({mode}) for this reason already.")
            holds.alter([FLEET], details=details, **asked)
        else:
            holds.place([FLEET], details=details, **asked)
        return fleet_state.lock()


def resume(*, reason: str, actor: Actor, force: bool = False, confirmation: str = "") -> FleetState:
    """Let the fleet continue. Other holds stay in force.

    Raises ``InvalidFleetCommand``, or ``FleetRefused`` if it is not paused, or (unless by ``force``) not drained.
    """
    _check(reason)
    with _refusal_on_record("resume", actor, reason), transaction.atomic():
        before = fleet_state.lock()
        if not before.is_paused:
            raise FleetRefused(NOT_PAUSED, "Cannot resume the fleet: it is not paused.")
        metrics = drain.measure(before.mode)
        if not metrics.is_drained and not force:
            raise FleetRefused(NOT_DRAINED, f"Cannot resume the fleet: {undrained(metrics)}. Force it to resume now.")
        details = {"mode": before.mode, "forced": force, "confirmation": confirmation, **_counts(metrics)}
        holds.release([FLEET], actor=actor, reason=reason, details={FLEET: details})
        return fleet_state.lock()


def undrained(metrics: Metrics) -> str:
    """What keeps the fleet from being drained, as a clause for a sentence."""
    if not metrics.is_available:
        return "what is still running cannot be read"
    parts = [f"{metrics.running} running"] if metrics.running else []
    if metrics.stale_running:
        parts.append(f"{metrics.stale_running} of lost workers")
    if metrics.unreported:
        parts.append(f"{metrics.unreported} workers that have not said what they have in hand")
    return f"it is not drained: {' and '.join(parts)}"


def maintain() -> None:
    """Do what beat asks: warn, once per worker and pause, of work that outlasts a quiesce; forget workers long gone."""
    now = state()
    for blocker, sentence in report.overdue(now, drain.measure(now.mode)) if now.mode == "quiesce" else ():
        key = (now.version, blocker.worker)
        if key not in _warned:
            _warned.add(key)
            logger.warning("%s", sentence)
    if not now.is_paused:
        _warned.clear()
    members.forget_gone()


def _check(reason: str, mode: str | None = None, deadline: timedelta | None = None) -> None:
    if not reason.strip():
        raise InvalidFleetCommand("expected a reason, got none")
    if mode is not None and mode not in Hold.Mode.values:
        raise InvalidFleetCommand(f"expected the mode drain or quiesce, got: {mode!r}")
    if deadline is not None and (mode != Hold.Mode.DRAIN or deadline <= timedelta(0)):
        raise InvalidFleetCommand("expected a deadline only with the mode drain, and in the future")


def _ends_at(deadline: timedelta | None) -> datetime | None:
    return None if deadline is None else database_now() + deadline


def _counts(metrics: Metrics) -> dict[str, Any]:
    return {name: value for name, value in metrics.as_dict().items() if name != "status"}


@contextmanager
def _refusal_on_record(verb: str, actor: Actor, reason: str) -> Iterator[None]:
    """Record a refusal, outside of the transaction that it has ended."""
    try:
        yield
    except FleetRefused as refusal:
        details = {"code": refusal.code, "because": str(refusal)}
        audit.record(f"{verb}_refused", scope=FLEET, actor=actor, reason=reason, details=details)
        raise
