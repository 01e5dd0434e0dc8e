"""What goes with a change of holds, in this order, inside its transaction.

Before the rows of the holds are written (:func:`lock`):

1. the row of the fleet switch is locked, if workers obey a hold on one of the scopes
2. each workload locks the rows that belong to the scopes, in the order of registration

After they are written (:func:`follow`):

3. ``writer`` counts the revision that workers confirm, if they obey the hold
4. the fleet switch follows an operator's hold on ``fleet``, one version later
5. what a hold on more than a run finds in progress is stored with its event (looked at again after the commit)
6. each workload follows, in the order of registration: the pause queue drops the entries whose runs are released; the
   pausable tasks send on, after the commit, what nothing holds any more; the apps of the project do what is theirs
7. the event is written, and announced after the commit
8. the log reports the change, and the worker processes are notified after the commit
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pause_manager import workloads
from pause_manager.holds import fleet_state, milestones
from pause_manager.messaging import doorbell, notifier
from pause_manager.observability import audit
from pause_manager.workloads import HoldChange

_EVENTS = {"placed": "hold_placed", "altered": "hold_altered", "released": "hold_released"}


def lock(scopes: Sequence[str]) -> None:
    """Lock what belongs to ``scopes``: the holds on them are about to change."""
    ordered = sorted(set(scopes))
    if any(fleet_state.is_obeyed_by_workers(scope) for scope in ordered):
        fleet_state.lock()
    workloads.lock(ordered)


def follow(change: HoldChange, changes: Mapping[str, audit.Change], mode: str = "") -> None:
    """Carry out what follows ``change``, whose events say what the holds were ``changes`` from and to."""
    fleet_state.follow(change)
    milestones.count_in_progress(change)
    workloads.hold_changed(change)
    audit.record_each(
        _EVENTS[change.what], change.details.items(), actor=change.actor, reason=change.reason, changes=changes
    )
    doorbell.ring(change.what, change.scopes, mode, kind=change.kind, reason=change.reason)
    notifier.publish_on_commit(*change.scopes)
