"""The registered workloads. Each function asks or tells all of them, in the order of registration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pause_manager.capacity.snapshot import Allocation
from pause_manager.workloads.contract import Workload
from pause_manager.workloads.values import Counts, Finding, HoldChange, Member, Remaining, Waiter, WorkKind

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


def line(name: str, at_most: int, user: Any = None) -> list[Waiter]:
    """Return the first that wait for a resource, each kind in its order, as far as ``user`` may see them."""
    return [waiter for workload in _registered for waiter in workload.line(name, at_most, user)]


def findings() -> list[Finding]:
    """Return what tells whether the work of each workload is flowing and succeeding."""
    return [finding for workload in _registered for finding in workload.findings()]


def members() -> list[Member]:
    """Return who must obey the fleet switch beside the Celery workers."""
    return [member for workload in _registered for member in workload.members()]


def storage_report() -> Mapping[str, Any] | None:
    """Return the first report there is on where this worker keeps files."""
    return next((found for workload in _registered if (found := workload.storage_report()) is not None), None)


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
