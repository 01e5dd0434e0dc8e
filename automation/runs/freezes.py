"""The freeze of a lane: none of its work starts until an operator lifts it (S-26).

It is a ``freeze`` hold on ``lane:x``, beside an operator's. Its mode is ``quiesce``: after a failed check no further
item of the lane starts, in whichever loop. No clock and no release of another hold ends it.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from automation.errors import InvalidFreeze, NotFrozen
from pause_manager import holds
from pause_manager.actor import Actor
from pause_manager.models import Hold


def scope(lane: str) -> str:
    """The scope of a lane's holds."""
    return f"lane:{lane}"


def freeze(lane: str, *, actor: Actor, reason: str, details: dict[str, Any] | None = None) -> bool:
    """Freeze ``lane``; False if it was frozen before, which keeps its time, actor and reason.

    Raises ``InvalidFreeze`` without a reason.
    """
    if not reason.strip():
        raise InvalidFreeze(f"Cannot freeze lane {lane}: expected a reason, got none.")
    name = scope(lane)
    placed = holds.place(
        [name],
        kind=Hold.Kind.FREEZE,
        mode=Hold.Mode.QUIESCE,
        actor=actor,
        reason=reason,
        details={name: details or {}},
    )
    return bool(placed)


def unfreeze(lane: str, *, actor: Actor, reason: str = "") -> None:
    """Lift the freeze of ``lane``; other holds on it stay in force. Raises ``NotFrozen``."""
    with transaction.atomic():
        if not holds.release([scope(lane)], kind=Hold.Kind.FREEZE, actor=actor, reason=reason):
            raise NotFrozen(lane)


def of_lane(lane: str) -> Hold | None:
    """The freeze in force on ``lane``."""
    return Hold.objects.covering([scope(lane)]).filter(kind=Hold.Kind.FREEZE).first()
