"""The contract with apps that have work that holds stop and nodes carry: a subclass of :class:`Workload`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Q
from django.db.models.expressions import Combinable

from pause_manager.capacity.snapshot import Allocation
from pause_manager.models import ControlEvent, ControlEventQuerySet, PauseQueueQuerySet
from pause_manager.workloads.values import Counts, Finding, HoldChange, Member, Remaining, Waiter, WorkKind


class Workload:
    """Work that holds stop and nodes carry. Override what you have; every default means "none".

    Register one instance in ``AppConfig.ready``: ``workloads.register(MyWork())``. The pause manager then shows your
    work, counts it while it drains the fleet, leaves room for it on its nodes, and asks it to stop. What your work must
    do itself: before it starts a piece, check that no hold covers it (``Hold.objects.covering(scopes)``), and ask for
    room (``manager.should_pause`` or ``manager.admit_on``) if it needs any; while it runs, check again at each point
    where it can stop.

    The first group of methods is read, in each web request, worker beat or poll that needs it: use a constant number
    of queries, change nothing, and raise what goes wrong. The second group is called inside the transaction of the
    change, which an exception rolls back. Do there what must be true together with the change; put everything slow
    (the broker, a network call) into ``transaction.on_commit(..., robust=True)``.
    """

    # What there is.

    def allocations(self, node: str | None) -> Iterable[tuple[str | None, Allocation]]:
        """Return (node, allocation) of what runs on ``node``.

        If ``node`` is ``None``: of what runs on all nodes, and (``None``, allocation) of what is sent and not placed.
        """
        return ()

    def kinds(self) -> Iterable[WorkKind]:
        """Return the kinds of new work, so that people can see whether each would have to wait."""
        return ()

    def waiting_queues(self) -> Iterable[str]:
        """Return the Celery queues in which work waits, so that a queue without a live worker is reported."""
        return ()

    def waiting(self) -> Mapping[tuple[str, str], int]:
        """Return how much of your work waits, by what it is (such as ``runs``) and the code of its first reason."""
        return {}

    def stopped_messages(self) -> Mapping[str, int]:
        """Return by queue how many of your messages in the broker would start nothing if a worker came."""
        return {}

    def override_queues(self) -> Iterable[str]:
        """Return the Celery queues that bring work which an operator started despite missing capacity.

        A node that takes no new work still serves them.
        """
        return ()

    def in_progress(self, scopes: Collection[str]) -> Mapping[str, Counts]:
        """Return those of the held ``scopes`` under which work is in progress, with how much of what."""
        return {}

    def unreported(self, scopes: Collection[str]) -> Collection[str]:
        """Return those of the held ``scopes`` which somebody who may be working has not yet confirmed to obey."""
        return ()

    def remaining(self, mode: str) -> Remaining:
        """Return what keeps the fleet from being drained, with at most ``MOST_BLOCKERS`` blockers, the oldest first.

        ``mode`` is that of the pause (``drain``, ``quiesce``, or empty if there is none): it decides how long a piece
        still runs.
        """
        return Remaining()

    def used_resources(self) -> Iterable[str]:
        """Return the names of the resources outside that work declares to use."""
        return ()

    def in_use(self, limits: Mapping[str, int | None]) -> Mapping[str, int]:
        """Return how much of each of these resources is in use: items and tasks in progress, from live rows.

        The value of ``limits`` is what each may be used at once, ``None`` for no limit. A piece of work that could use
        more of one at once than that uses just so much.
        """
        return {}

    def waiting_for(self, names: Collection[str]) -> Mapping[str, int]:
        """Return how much of your work waits until these resources have places for it."""
        return {}

    def line(self, name: str, at_most: int, user: Any) -> Sequence[Waiter]:
        """Return the first of your work that waits for the resource ``name``, in the order in which it starts.

        Nothing that anything else keeps is in it. What ``user`` may not see has no ``ref`` and no ``title``; with
        ``None`` everything is told.
        """
        return ()

    def findings(self) -> Iterable[Finding]:
        """Return what tells whether your work is flowing and succeeding, see :class:`Finding`."""
        return ()

    def members(self) -> Iterable[Member]:
        """Return who takes work and must obey the fleet switch, Celery workers aside."""
        return ()

    def storage_report(self) -> Mapping[str, Any] | None:
        """Return where this worker keeps files, for its reports, so that workers can be compared.

        ``id`` is the mark of the storage, ``place`` the same text for all who share it, ``name`` for people.
        """
        return None

    # Who may see what. ``user`` may be anonymous.

    view_permission = ""
    """The permission with which users may read their entries of the pause queue; empty: no user has any."""
    operate_permission = ""
    """The permission with which they may change them."""

    def tenant_of(self, scope: str) -> Combinable | None:
        """Return SQL for the tenant (a number) of ``scope``, stored with its events; ``None`` if it has none."""
        return None

    def visible_events(self, user: Any) -> ControlEventQuerySet | None:
        """Return the events that ``user``, who may not read all, may read; ``None`` if there are none for them."""
        return None

    def visible_entries(self, user: Any) -> PauseQueueQuerySet | None:
        """Return the entries of the pause queue that belong to ``user``, if they have the permission to read them.

        ``None`` if none ever does. Users with ``pause_manager.view_pausequeueentry`` may read all, unasked.
        """
        return None

    def visible_agents(self, user: Any) -> Collection[str]:
        """Return the names of the members of kind ``agent`` that ``user`` may see."""
        return ()

    def hidden_scopes(self, user: Any) -> Q:
        """Return a condition on ``scope`` for the scopes of other tenants, which ``user`` must not see."""
        return Q(pk__in=[])

    def reason_for(self, user: Any, event: ControlEvent) -> str:
        """Return the reason of ``event``, which ``user`` may read, without what it quotes and they may not see."""
        return event.reason

    # What happens, inside the transaction that makes it happen.

    def lock(self, scopes: Sequence[str]) -> None:
        """Lock your rows that belong to ``scopes``, in the order of their keys: holds on them are about to change."""

    def hold_changed(self, change: HoldChange) -> None:
        """Follow a change of holds, which :meth:`lock` has announced."""

    def cancel(self, scope: str, reason: str) -> None:
        """Cancel the work of ``scope``: the hold on it has expired and was to end so."""

    def give_way(self, refs: Sequence[str], reason: str) -> None:
        """Ask those of the allocations ``refs`` that are yours to stop: their node is needed for something else."""

    def resource_changed(self, name: str, reason: str) -> None:
        """Ask what uses the resource ``name`` to stop at its next boundary: it may continue by the new rules only."""

    def ignore_capacity(self, refs: Sequence[str]) -> None:
        """Never again park those of ``refs`` that are yours for missing capacity: an operator starts them anyway."""

    def machine_renamed(self, boot_id: str, old: str, new: str) -> None:
        """Write the new name of a machine where your rows have the old one, row by row in the order of their keys.

        Nothing starts, and no poll runs, until the transaction has ended.
        """
