"""Holds by the dozen: placed on, and released from, whatever a pattern names. What HTTP, the admin and the shell call.

The fleet and runs have verbs of their own, which know more: ``fleet.pause``, and the pause of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction

from pause_manager import holds, nodes
from pause_manager.actor import Actor
from pause_manager.errors import InvalidHold
from pause_manager.models import Hold
from pause_manager.models.clock import database_now
from pause_manager.nodes import serving
from pause_manager.resources import report
from pause_manager.scopes import RESOURCE_NAME, RESOURCE_NAMES, is_run

ALL = "*"


@dataclass(frozen=True)
class BulkOutcome:
    """The scopes that were not held before, that were and changed, and that were held just so."""

    placed: list[str]
    altered: list[str]
    unchanged: list[str]


def place(
    names: Sequence[str],
    *,
    mode: str,
    actor: Actor,
    reason: str = "",
    expires_in: timedelta | None = None,
    on_expiry: str = Hold.OnExpiry.RESUME,
    idempotency_key: str = "",
) -> BulkOutcome:
    """Hold every scope that ``names`` mean for an operator; a hold that is there gets this mode, reason and end.

    ``node:*`` means every node that is known, ``queue:*`` every queue that a live worker serves. Raises
    ``InvalidHold``.
    """
    scopes = _places(names)
    if on_expiry == Hold.OnExpiry.CANCEL:
        raise InvalidHold("Cannot end these holds with a cancel: only a run can be cancelled.")
    ends = None if expires_in is None else database_now() + expires_in
    with transaction.atomic():
        placed = holds.place(
            scopes,
            mode=mode,
            actor=actor,
            reason=reason,
            expires_at=ends,
            on_expiry=on_expiry,
            idempotency_key=idempotency_key,
        )
        others = sorted(set(scopes) - set(placed))
        altered = holds.alter(
            others,
            mode=mode,
            actor=actor,
            reason=reason,
            expires_at=ends,
            on_expiry=on_expiry,
            idempotency_key=idempotency_key,
        )
    return BulkOutcome(sorted(placed), sorted(altered), sorted(set(others) - set(altered)))


def release(names: Sequence[str], *, actor: Actor, reason: str = "") -> tuple[list[str], list[str]]:
    """Release the operators' holds on the scopes that ``names`` mean; (released, named but not held so).

    ``lane:*`` means every lane that an operator holds, and so on. Holds of other kinds stay. Raises ``InvalidHold``.
    """
    held = Hold.objects.active().filter(kind=Hold.Kind.OPERATOR)
    scopes: set[str] = set()
    for name in names:
        _check(name)
        if name.endswith(f":{ALL}"):
            scopes.update(held.filter(scope__startswith=name[:-1]).values_list("scope", flat=True))
        else:
            scopes.add(name)
    released = holds.release(sorted(scopes), actor=actor, reason=reason) if scopes else []
    return sorted(released), sorted(scopes - set(released))


def unknown(names: Sequence[str]) -> list[str]:
    """A sentence for each node, queue or resource of ``names`` that nobody has heard of: another may be meant.

    A hold on what is not there yet is in force all the same when it comes.
    """
    found = []
    known: dict[str, Callable[[], set[str]]] = {
        "node": lambda: {state.view.name for state in nodes.states()},
        "queue": lambda: set(serving.queues()),
        "resource": report.known,
    }
    for subject, read in known.items():
        wanted = [name.partition(":")[2] for name in names if name.startswith(f"{subject}:") and name[-1] != ALL]
        there: set[str] = read() if wanted else set()
        listed = f"known: {', '.join(sorted(there))}" if there else "none is known"
        verb = {"node": "is called", "queue": "that a worker serves is called"}.get(subject, "that work uses is called")
        found += [f"No {subject} {verb} {name} now ({listed})." for name in wanted if name not in there]
    return found


def _places(names: Sequence[str]) -> list[str]:
    scopes: set[str] = set()
    for name in names:
        _check(name)
        subject, _, rest = name.partition(":")
        if subject == "resource" and rest != ALL and not RESOURCE_NAME.fullmatch(rest):
            raise InvalidHold(f"Cannot hold {name[:100]}: expected resource: and {RESOURCE_NAMES}.")
        if rest != ALL:
            scopes.add(name)
        elif subject == "node":
            scopes.update(f"node:{view.name}" for view in nodes.live_nodes())
        elif subject == "queue":
            scopes.update(f"queue:{queue}" for queue in serving.queues())
        else:
            raise InvalidHold(f"Cannot hold {name}: expected node:* or queue:*, or the names of what to hold.")
    if not scopes:
        raise InvalidHold(f"Cannot hold {', '.join(names) or 'nothing'}: there is none now.")
    return sorted(scopes)


def _check(name: str) -> None:
    if name == "fleet":
        raise InvalidHold("Cannot hold or release the fleet here: use the fleet switch.")
    if is_run(name):
        raise InvalidHold(f"Cannot hold or release {name} here: pause or resume the run.")
