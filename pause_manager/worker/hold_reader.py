"""Reads what a worker must obey, in one statement, which makes its report and the heartbeats of its tasks as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection

from pause_manager.database.watchdog import watchdog
from pause_manager.holds import fleet_state
from pause_manager.holds.stops import Stop, told_of_hold
from pause_manager.messaging.pg_notifications import Notification
from pause_manager.models import ControlState, Hold
from pause_manager.nodes import members
from pause_manager.nodes.machines import identity, renaming
from pause_manager.pausable import running_tasks
from pause_manager.probes import processes
from pause_manager.scopes import resource
from pause_manager.slots import shared_state
from pause_manager.slots.shared_state import ActiveHold, HoldSnapshot
from pause_manager.slots.stop_publisher import HUNG_SECONDS
from pause_manager.worker.consumption import consumption

_HOLD, _CONTROL = (model._meta.db_table for model in (Hold, ControlState))

_READ = f"""
    SELECT control.revision, control.version, control.is_paused, control.mode, control.reason,
           (SELECT coalesce(json_agg(json_build_array(scope, kind, mode, reason) ORDER BY id), '[]'::json)
              FROM {_HOLD} WHERE released_at IS NULL AND scope = ANY(%(scopes)s)),
           {{yields}}, {{node}}
      FROM {_CONTROL} AS control WHERE id = 1
"""
_LOOK = _READ.format(yields="'[]'::json", node=f"(SELECT name FROM {identity.MACHINE} WHERE boot_id = %(boot_id)s)")
# The report first: it has the machine's row before the rows of its tasks, as who renames it.
_BEAT = f"""
    WITH report AS ({members.REPORT}),
         beat AS (
             {running_tasks.HEARTBEAT} AND (SELECT count(*) FROM report) = 1 RETURNING turn, stop_reason
         )
""" + _READ.format(
    yields="(SELECT coalesce(json_agg(json_build_array(turn, stop_reason)), '[]'::json)"
    " FROM beat WHERE stop_reason <> '')",
    node="(SELECT node FROM report)",
)


@dataclass(frozen=True)
class Reading:
    """What was read at one moment."""

    control: HoldSnapshot
    """Of the worker's own scopes, for the page."""
    version: int
    """Of the fleet switch."""
    switch: str
    """Its state, for the log."""
    held: Mapping[str, ActiveHold]
    """The worker's own scopes that are held."""
    queues: frozenset[str]
    """The queues that were asked about."""
    quiesced: Mapping[str, Stop]
    """The scopes that stop loops, of those in ``of_loops``."""
    of_loops: set[str]


class HoldReader:
    """Of one worker. ``loops`` gives the scopes of the stage loops that run in its pool."""

    def __init__(self, resources: Iterable[str], loops: Callable[[], set[str]]) -> None:
        self._resources = sorted(set(resources))
        self._loops = loops
        self.node = identity.known_name()
        """The name of the machine when it was last asked."""
        self.read_at = 0.0
        """When what was read last was asked for, by ``shared_state.now``; 0: nothing of it counts."""

    def scopes(self) -> list[str]:
        """What of the worker's can be held."""
        return [
            "fleet",
            f"node:{self.node}",
            *(f"queue:{queue}" for queue in sorted(consumption.queues)),
            *map(resource, self._resources),
        ]

    def look(self) -> Reading:
        """Read, and tell nobody. Raises ``DatabaseError`` and ``identity.NameTaken``."""
        return self._read(_LOOK, {})

    def beat(self, report: Mapping[str, Any]) -> Reading:
        """Report and read. Raises as :meth:`look` does."""
        return self._read(_BEAT, report)

    def foreseen(self, control: HoldSnapshot, rings: Iterable[Notification]) -> HoldSnapshot:
        """``control`` with the holds that ``rings`` report and that are not read yet."""
        everything, queues, used = control.everything, dict(control.queues), dict(control.resources)
        for ring in rings:
            if ring.change != "placed":
                continue
            for scope in ring.scopes:
                told = ActiveHold(ring.mode, told_of_hold(scope, ring.kind, ring.reason))
                if scope in ("fleet", f"node:{self.node}"):
                    everything = everything or told
                elif scope.startswith("queue:"):
                    queues.setdefault(scope.removeprefix("queue:"), told)
                elif scope.startswith("resource:"):
                    used.setdefault(scope.removeprefix("resource:"), told)
        return HoldSnapshot(control.revision, everything, queues, control.yields, used)

    def _read(self, statement: str, values: Mapping[str, Any]) -> Reading:
        asked = shared_state.now()
        with watchdog.limit("the name of the machine", HUNG_SECONDS):
            self.node = renaming.settle_name()
        reading, node = self._ask(statement, values)
        while node not in (None, self.node):  # Renamed meanwhile: the holds of a node that is gone were read.
            self.node = node
            reading, node = self._ask(statement, values)
        self.read_at = asked
        return reading

    def _ask(self, statement: str, values: Mapping[str, Any]) -> tuple[Reading, Any]:
        """(what was read, the name of the machine in the database)"""
        queues, own, of_loops = consumption.queues, self.scopes(), self._loops()
        values = {"scopes": sorted(of_loops.union(own)), "boot_id": processes.boot_id(), **values}
        with watchdog.limit("the holds", HUNG_SECONDS), connection.cursor() as cursor:
            cursor.execute(statement, values)
            row = cursor.fetchone()
            if row is None:
                fleet_state.read()  # makes the row again
                cursor.execute(statement, values)
                row = cursor.fetchone()
        revision, version, is_paused, mode, reason, holds, yields, node = row
        found: dict[str, ActiveHold] = {}
        for scope, kind, mode_, why in _decoded(holds):
            if scope not in found or mode_ == Hold.Mode.QUIESCE:
                found[scope] = ActiveHold(mode_, told_of_hold(scope, kind, why))
        held = {scope: found[scope] for scope in own if scope in found}
        quiesced = {scope: Stop("held", one.sentence) for scope, one in found.items() if one.quiesces}
        control = self._control(revision, held, _decoded(yields))
        switch = f"{mode}: {reason}" if is_paused else "not paused"
        return Reading(control, version, switch, held, queues, quiesced, of_loops), node

    def _control(self, revision: int, held: Mapping[str, ActiveHold], yields: Any) -> HoldSnapshot:
        everything = [held[scope] for scope in ("fleet", f"node:{self.node}") if scope in held]
        return HoldSnapshot(
            revision=revision,
            everything=next((one for one in everything if one.quiesces), everything[0] if everything else None),
            queues=_of_kind("queue:", held),
            yields={str(turn): sentence for turn, sentence in yields},
            resources=_of_kind("resource:", held),
        )


def _of_kind(prefix: str, held: Mapping[str, ActiveHold]) -> dict[str, ActiveHold]:
    return {scope.removeprefix(prefix): one for scope, one in held.items() if scope.startswith(prefix)}


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
