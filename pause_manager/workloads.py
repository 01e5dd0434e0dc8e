"""The contract with apps that have work that holds stop and nodes carry: implement :class:`Workload` and register it.

The functions below ask or tell every workload that is registered, in the order of registration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal

from django.db.models import Q
from django.db.models.expressions import Combinable

from pause_manager import conf
from pause_manager.actor import Actor
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation
from pause_manager.models import ControlEvent, ControlEventQuerySet, PauseQueueEntry, PauseQueueQuerySet
from pause_manager.scopes import RUNS

READ_ALL_EVENTS = "pause_manager.view_controlevent"
VIEW_ALL_ENTRIES, CHANGE_ALL_ENTRIES = "pause_manager.view_pausequeueentry", "pause_manager.change_pausequeueentry"
MOST_BLOCKERS = 50
SILENT_BEATS = 2

WORKER, AGENT = MEMBER_KINDS = ("worker", "agent")

Counts = dict[str, int]
"""How much of what is in progress, such as ``{"leases": 12, "runs": 3}``."""


@dataclass(frozen=True)
class WorkKind:
    """Work of one stage of a pipeline: what new work of this kind needs."""

    pipeline: str
    stage: str
    needs: Needs
    queue: str = ""
    """The queue whose workers do it; empty: work that no queue brings."""


@dataclass(frozen=True)
class Blocker:
    """One piece of work that keeps the fleet from being drained. ``ref`` names what it is part of, such as ``run:x``.

    ``ends_at`` is estimated from its own rate; ``None`` if nothing is known yet. ``is_stale``: its worker has been
    silent for longer than its lease lasts.
    """

    ref: str
    stage: str
    item: str
    worker: str
    node: str
    since: datetime
    ends_at: datetime | None = None
    is_stale: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON, in the style of the endpoint; times in ISO 8601."""
        return {
            "run": self.ref.removeprefix(RUNS),
            "stage": self.stage,
            "item": self.item,
            "worker": self.worker,
            "node": self.node,
            "since": self.since.isoformat(),
            "estimatedEnd": self.ends_at.isoformat() if self.ends_at else None,
            "isStale": self.is_stale,
        }


@dataclass(frozen=True)
class Remaining:
    """The work of one workload: pieces that are due, that run, and whose worker is lost; and the oldest that run."""

    queued: int = 0
    running: int = 0
    stale: int = 0
    blockers: tuple[Blocker, ...] = ()
    unreported: int = 0
    """Live workers that have not confirmed that they obey the pause: what they have in hand is unknown."""
    warnings: tuple[str, ...] = ()
    """What would not resume after a release, one sentence each."""


@dataclass(frozen=True)
class Member:
    """A worker or agent that lives (or has work in hand), and the version of the fleet switch that it acknowledged."""

    kind: str
    name: str
    node: str
    version: int
    seen_at: datetime
    silent_seconds: float
    owner: str = ""
    """Its main process."""
    since: datetime | None = None
    """When it first reported ``version``."""

    def lags(self, version: int) -> bool:
        """Whether it reports and has not acknowledged ``version``."""
        return self.version < version and not self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether it has been silent for two beats, so that what it obeys and has in hand is unknown.

        An agent is silent between two calls and takes nothing unasked: its last call counts.
        """
        return self.kind == WORKER and self.silent_seconds > SILENT_BEATS * conf.settings().worker_beat_seconds

    def as_dict(self) -> dict[str, Any]:
        """For JSON, in the style of the endpoint."""
        return {
            "kind": self.kind,
            "name": self.name,
            "node": self.node,
            "acknowledgedVersion": self.version,
            "lastSeenAt": self.seen_at.isoformat(),
            "silentSeconds": round(self.silent_seconds, 1),
        }


@dataclass(frozen=True)
class Finding:
    """One fact that answers a question of the health verdict.

    ``level``: ``problem`` if somebody must act, ``held`` if work is stopped on purpose or waits for room, ``note`` if
    it is worth a look, ``good`` if it is evidence that all is well.
    """

    question: Literal["flowing", "succeeding", "fresh"]
    level: Literal["problem", "held", "note", "good"]
    code: str
    sentence: str
    """For everybody who may see the fleet: counts, queues and nodes, no names of runs and no errors of stages."""
    cause: str = ""
    """The likely cause."""
    next_step: str = ""
    """What to do or to look at next."""
    since: datetime | None = None
    detail: str = ""
    """Names and errors, for operators."""


@dataclass(frozen=True)
class HoldChange:
    """A change of the holds of one kind on ``scopes``, as its transaction makes it."""

    what: Literal["placed", "altered", "released"]
    scopes: Sequence[str]
    kind: str
    actor: Actor
    reason: str
    details: dict[str, dict[str, Any]]
    """By scope, stored with the event; those who are told of the change may add to them."""


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


_registered: list[Workload] = []


def register(workload: Workload) -> Workload:
    """Add ``workload`` to those that are asked and told."""
    _registered.append(workload)
    return workload


def unregister(workload: Workload) -> None:
    """Take ``workload`` away again."""
    _registered.remove(workload)


def registered() -> tuple[Workload, ...]:
    """Return every workload, in the order of registration."""
    return tuple(_registered)


def with_allocations() -> list[Workload]:
    """Return the workloads that put anything on nodes: their work asks by itself before it starts."""
    return [workload for workload in _registered if type(workload).allocations is not Workload.allocations]


def allocations_by_node(node: str | None = None) -> dict[str | None, list[Allocation]]:
    """Return every allocation by node, or those of one node if ``node`` is named."""
    found: dict[str | None, list[Allocation]] = {}
    for workload in _registered:
        for name, allocation in workload.allocations(node):
            found.setdefault(name, []).append(allocation)
    return found


def kinds() -> list[WorkKind]:
    """Return every kind of work."""
    return [kind for workload in _registered for kind in workload.kinds()]


def waiting_queues() -> set[str]:
    """Return every queue in which work waits."""
    return {queue for workload in _registered for queue in workload.waiting_queues()}


def waiting() -> dict[tuple[str, str], int]:
    """Return how much waits, by what it is and the code of its first reason."""
    found: dict[tuple[str, str], int] = {}
    for workload in _registered:
        for key, count in workload.waiting().items():
            found[key] = found.get(key, 0) + count
    return found


def stopped_messages() -> dict[str, int]:
    """Return by queue how many messages in the broker would start nothing if a worker came."""
    found: dict[str, int] = {}
    for workload in _registered:
        for queue, count in workload.stopped_messages().items():
            found[queue] = found.get(queue, 0) + count
    return found


def override_queues() -> frozenset[str]:
    """Return every queue that brings work which waits for no room."""
    return frozenset(queue for workload in _registered for queue in workload.override_queues())


def in_progress(scopes: Collection[str]) -> dict[str, Counts]:
    """Return those of ``scopes`` under which something is in progress, with how much of what."""
    found: dict[str, Counts] = {}
    for workload in _registered:
        for scope, counts in workload.in_progress(scopes).items():
            found.setdefault(scope, {}).update(counts)
    return found


def unreported(scopes: Collection[str]) -> set[str]:
    """Return those of the held ``scopes`` which somebody has not yet confirmed to obey."""
    return {scope for workload in _registered for scope in workload.unreported(scopes)}


def remaining(mode: str) -> list[Remaining]:
    """Return what keeps the fleet from being drained, by workload."""
    return [workload.remaining(mode) for workload in _registered]


def used_resources() -> set[str]:
    """Return the names of the resources outside that any work declares to use."""
    return {name for workload in _registered for name in workload.used_resources()}


def in_use(limits: Mapping[str, int | None]) -> dict[str, int]:
    """Return how much of each of these resources is in use."""
    found = dict.fromkeys(limits, 0)
    for workload in _registered:
        for name, count in workload.in_use(limits).items():
            found[name] += count
    return found


def waiting_for(names: Collection[str]) -> dict[str, int]:
    """Return how much work waits for each of these resources."""
    found = dict.fromkeys(names, 0)
    for workload in _registered:
        for name, count in workload.waiting_for(names).items():
            found[name] += count
    return found


def findings() -> list[Finding]:
    """Return what tells whether the work of each workload is flowing and succeeding."""
    return [finding for workload in _registered for finding in workload.findings()]


def members() -> list[Member]:
    """Return who must obey the fleet switch beside the Celery workers."""
    return [member for workload in _registered for member in workload.members()]


def storage_report() -> Mapping[str, Any] | None:
    """Return the first report there is on where this worker keeps files."""
    return next((found for workload in _registered if (found := workload.storage_report()) is not None), None)


def tenant_of(scope: str) -> Combinable | None:
    """Return SQL for the tenant of ``scope`` by the first workload that knows it."""
    return next((found for workload in _registered if (found := workload.tenant_of(scope)) is not None), None)


def visible_events(user: Any) -> ControlEventQuerySet | None:
    """Return the events that ``user`` may read, or ``None`` if the audit trail is not theirs to read."""
    if not user.is_authenticated:
        return None
    if user.has_perm(READ_ALL_EVENTS):
        return ControlEvent.objects.all()
    found = None
    for workload in _registered:
        events = workload.visible_events(user)
        if events is not None:
            found = events if found is None else found | events
    return found


def view_permissions() -> list[str]:
    """Return the permissions with each of which a user may read some entries of the pause queue or all."""
    return [VIEW_ALL_ENTRIES, *filter(None, (workload.view_permission for workload in _registered))]


def change_permissions() -> list[str]:
    """Return the permissions with each of which a user may change some entries of the pause queue or all."""
    return [CHANGE_ALL_ENTRIES, *filter(None, (workload.operate_permission for workload in _registered))]


def visible_entries(user: Any) -> PauseQueueQuerySet:
    """Return the entries of the pause queue that ``user`` may read; those of a superuser are all."""
    return _entries(user, VIEW_ALL_ENTRIES, attrgetter("view_permission"))


def changeable_entries(user: Any) -> PauseQueueQuerySet:
    """Return the entries of the pause queue that ``user`` may change; those of a superuser are all."""
    return _entries(user, CHANGE_ALL_ENTRIES, attrgetter("operate_permission"))


def _entries(user: Any, of_all: str, permission_of: Callable[[Workload], str]) -> PauseQueueQuerySet:
    if user.has_perm(of_all):
        return PauseQueueEntry.objects.all()
    found = PauseQueueEntry.objects.none()
    for workload in _registered:
        permission = permission_of(workload)
        if permission and user.has_perm(permission) and (entries := workload.visible_entries(user)) is not None:
            found |= entries
    return found


def visible_agents(user: Any) -> set[str]:
    """Return the names of the agents that ``user`` may see."""
    return {name for workload in _registered for name in workload.visible_agents(user)}


def hidden_scopes(user: Any) -> Q:
    """Return a condition on ``scope`` for what ``user`` must not see."""
    found = Q(pk__in=[])
    for workload in _registered:
        found |= workload.hidden_scopes(user)
    return found


def events_for(user: Any, events: Iterable[ControlEvent]) -> list[ControlEvent]:
    """Return ``events`` with their reasons as far as ``user`` may see them: changed in place, not to be saved."""
    found = list(events)
    for event in found:
        for workload in _registered:
            event.reason = workload.reason_for(user, event)
    return found


def lock(scopes: Sequence[str]) -> None:
    """Have every workload lock what belongs to ``scopes``."""
    for workload in _registered:
        workload.lock(scopes)


def hold_changed(change: HoldChange) -> None:
    """Have every workload follow ``change``."""
    for workload in _registered:
        workload.hold_changed(change)


def cancel(scope: str, reason: str) -> None:
    """Have the work of ``scope`` cancelled by the workload that has it."""
    for workload in _registered:
        workload.cancel(scope, reason)


def give_way(refs: Sequence[str], reason: str) -> None:
    """Have the allocations ``refs`` asked to stop by the workloads that have them."""
    for workload in _registered:
        workload.give_way(refs, reason)


def resource_changed(name: str, reason: str) -> None:
    """Have whatever uses the resource ``name`` stop at its next boundary."""
    for workload in _registered:
        workload.resource_changed(name, reason)


def ignore_capacity(refs: Sequence[str]) -> None:
    """Have ``refs`` never parked again for missing capacity."""
    for workload in _registered:
        workload.ignore_capacity(refs)


def machine_renamed(boot_id: str, old: str, new: str) -> None:
    """Have every workload write the new name of a machine."""
    for workload in _registered:
        workload.machine_renamed(boot_id, old, new)
