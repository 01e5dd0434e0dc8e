"""The runs of pipelines as the pause manager's workload."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Q
from django.db.models.expressions import Combinable

from automation import leases
from automation.agents import registry
from automation.files import storage_reporter
from automation.reports import payload_access, waiting
from automation.workload import allocations, drain, findings, in_progress, resource_use, run_holds, visibility
from pause_manager.capacity.snapshot import Allocation
from pause_manager.models import ControlEvent, ControlEventQuerySet, PauseQueueQuerySet
from pause_manager.workloads import Counts, Finding, HoldChange, Member, Remaining, Waiter, WorkKind, Workload


class PipelineRuns(Workload):
    """Leases and runs, the agents that take work by themselves, and whose all of it is."""

    view_permission = visibility.VIEW
    operate_permission = visibility.OPERATE

    def allocations(self, node: str | None) -> Iterable[tuple[str | None, Allocation]]:
        return allocations.by_node(node)

    def kinds(self) -> Iterable[WorkKind]:
        return allocations.kinds()

    def waiting_queues(self) -> Iterable[str]:
        return allocations.waiting_queues()

    def waiting(self) -> Mapping[tuple[str, str], int]:
        return {("runs", reason): count for reason, count in waiting.by_reason().items()}

    def stopped_messages(self) -> Mapping[str, int]:
        return allocations.stopped_messages()

    def override_queues(self) -> Iterable[str]:
        return allocations.override_queues()

    def in_progress(self, scopes: Collection[str]) -> Mapping[str, Counts]:
        return in_progress.leased(scopes)

    def used_resources(self) -> Iterable[str]:
        return resource_use.declared()

    def in_use(self, limits: Mapping[str, int | None]) -> Mapping[str, int]:
        return resource_use.by_loops(limits)

    def waiting_for(self, names: Collection[str]) -> Mapping[str, int]:
        return resource_use.waiting(names)

    def line(self, name: str, at_most: int, user: Any) -> Sequence[Waiter]:
        return resource_use.line(name, at_most, user)

    def resource_changed(self, name: str, reason: str) -> None:
        leases.request_yield_of(name, reason)

    def remaining(self, mode: str) -> Remaining:
        return drain.remaining(mode)

    def findings(self) -> Iterable[Finding]:
        return findings.findings()

    def members(self) -> Iterable[Member]:
        return registry.members_that_obey()

    def storage_report(self) -> Mapping[str, Any] | None:
        return storage_reporter.report()

    def tenant_of(self, scope: str) -> Combinable | None:
        return visibility.account_of(scope)

    def visible_events(self, user: Any) -> ControlEventQuerySet | None:
        return visibility.events(user)

    def visible_entries(self, user: Any) -> PauseQueueQuerySet | None:
        return visibility.entries(user)

    def visible_agents(self, user: Any) -> Collection[str]:
        return visibility.agents(user)

    def hidden_scopes(self, user: Any) -> Q:
        return visibility.lanes_of_other_accounts(user)

    def reason_for(self, user: Any, event: ControlEvent) -> str:
        return payload_access.reason_for(user, event)

    def lock(self, scopes: Sequence[str]) -> None:
        run_holds.lock(scopes)

    def hold_changed(self, change: HoldChange) -> None:
        run_holds.follow(change)

    def cancel(self, scope: str, reason: str) -> None:
        run_holds.cancel(scope, reason)

    def give_way(self, refs: Sequence[str], reason: str) -> None:
        leases.request_yield(allocations.slices_of(refs), reason)

    def ignore_capacity(self, refs: Sequence[str]) -> None:
        run_holds.ignore_capacity(refs)

    def machine_renamed(self, boot_id: str, old: str, new: str) -> None:
        registry.rename_machine(old, new)
        leases.rename_machine(old, new)
