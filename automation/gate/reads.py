"""What the gate reads to judge runs: each layer once for all of them, and its error kept for its own verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

from automation.gate import delays, dependencies, file_sharing, installed_code, lane_order, loop_limit, resource_limits
from automation.gate.delays import Delay
from automation.gate.dependencies import Awaited
from automation.gate.file_sharing import Told
from automation.gate.lane_order import Ahead
from automation.gate.predicate import holds_of_all_nodes, scopes_with
from automation.gate.resource_limits import Wait
from automation.models import AutomationRun, Lifecycle, StageRun
from pause_manager.models import Hold
from pause_manager.observability import gate_health

T = TypeVar("T")


class Reads:
    """Of unfinished runs. Each method raises what its layer could not be read for, each time it is asked."""

    def __init__(self, runs: Iterable[AutomationRun]) -> None:
        self._runs = list(runs)
        self._found: dict[str, object] = {}

    def holds(self, run: AutomationRun) -> list[Hold]:
        """The holds that cover ``run``, those of nodes aside."""
        return self._once("holds", self._read_holds).get(run.pk, [])

    def holds_of_nodes(self) -> list[Hold]:
        """The holds on the live nodes, if there is none without one."""
        return self._once("node", holds_of_all_nodes)

    def awaited(self, run: AutomationRun) -> list[Awaited]:
        """The runs that ``run``, which has not started, waits for by declaration."""
        return self._once("dependency", self._read_awaited).get(run.pk, [])

    def ahead(self, run: AutomationRun) -> list[Ahead]:
        """The runs that keep ``run``, which has no place, from one."""
        return self._once("lane", self._read_ahead).get(run.pk, [])

    def stages(self, run: AutomationRun) -> list[StageRun]:
        """The stages that ``run`` is at, or begins with."""
        return self._once("code", self._read_code).get(run.pk, [])

    def places_of_files(self) -> list[Told]:
        """Where live workers keep files."""
        return self._once("files", file_sharing.told)

    def resources(self, run: AutomationRun) -> list[Wait]:
        """What resources have no place for, of ``run``, which is running."""
        return self._once("resources", lambda: resource_limits.waits_of(self._running())).get(run.pk, [])

    def delays(self, run: AutomationRun) -> list[Delay]:
        """What of ``run``, which is running, begins later."""
        return self._once("delays", lambda: delays.of(self._running())).get(run.pk, [])

    def _running(self) -> list[UUID]:
        return [run.pk for run in self._runs if run.lifecycle == Lifecycle.RUNNING]

    def overrides(self) -> None:
        """Nothing, if claims can read the limits of loops."""
        self._once("overrides", loop_limit.check)

    def _once(self, layer: str, read: Callable[[], T]) -> T:
        if layer not in self._found:
            try:
                with gate_health.guarded_read(layer):
                    self._found[layer] = read()
            except Exception as error:
                self._found[layer] = error
        found = self._found[layer]
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[return-value]

    def _read_code(self) -> dict[UUID, list[StageRun]]:
        installed_code.keys()  # as a claim asks: unknown code forbids all
        return self._read_stages()

    def _read_stages(self) -> dict[UUID, list[StageRun]]:
        found: dict[UUID, list[StageRun]] = {}
        for stage_run in StageRun.objects.filter(run__in=[run.pk for run in self._runs]).current():
            found.setdefault(stage_run.run_id, []).append(stage_run)
        return found

    def _read_holds(self) -> dict[UUID, list[Hold]]:
        stages = self._read_stages()
        scopes = {run.pk: set(scopes_with(run, stages.get(run.pk, []))) for run in self._runs}
        held = list(Hold.objects.covering(set().union(*scopes.values())))
        return {pk: [hold for hold in held if hold.scope in covering] for pk, covering in scopes.items()}

    def _read_awaited(self) -> dict[UUID, list[Awaited]]:
        return dependencies.awaited_by(run.pk for run in self._runs if run.started_at is None)

    def _read_ahead(self) -> dict[UUID, list[Ahead]]:
        return lane_order.ahead_of(run.pk for run in self._runs if run.lane_seat_at is None)
