"""The fleet page: the switch and how far a pause has come, machines, workers, holds and pause windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import Error as DatabaseError
from django.utils.dateparse import parse_datetime

from pause_manager import fleet
from pause_manager.console import links
from pause_manager.console.access import is_signed_in
from pause_manager.console.fleet import actions, brakes, crew, machines
from pause_manager.console.links import Link
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.shell import UNDRAINED
from pause_manager.console.viewer import Viewer
from pause_manager.fleet import drain, report
from pause_manager.holds.fleet_state import FleetState
from pause_manager.models import Hold
from pause_manager.models.fleet import OPERATE
from pause_manager.nodes import watching
from pause_manager.probes import processes
from pause_manager.workloads import Blocker

MOST_CHANGES = 5


@dataclass(frozen=True)
class Step:
    """One step of the switch; ``state`` is ``done``, ``now`` or ``next``."""

    title: str
    state: str


@dataclass(frozen=True)
class Remaining:
    """A piece of work that is still in progress under a pause."""

    subject: Link
    blocker: Blocker
    worker: str


def context(viewer: Viewer, query: Query) -> Context:
    """Return the context of the page."""
    may_operate = viewer.has_perm(OPERATE)
    state = fleet.state()
    metrics = drain.measure(state.mode)
    agents: set[str] | None = None if may_operate else set()
    told = report.snapshot(state, metrics, latest=MOST_CHANGES, with_blockers=may_operate, agents=agents)
    found_machines, machine_count = machines.of_all(names_work=may_operate)
    rows, row_count = crew.of_version(state.version, names_agents=may_operate)
    holds, has_more = brakes.holds(of_lanes=may_operate)
    return {
        "state": state,
        "metrics": metrics,
        "workers": told["workers"],
        "warnings": told["warnings"],
        "changes": [one | {"createdAt": parse_datetime(one["createdAt"])} for one in told["audit"]["latest"]],
        "deadline": parse_datetime(told["deadline"]) if told["deadline"] else None,
        "steps": steps(state, metrics),
        "blockers": [_remaining(one) for one in metrics.blockers] if may_operate else [],
        "may_operate": may_operate,
        "undrained": UNDRAINED,
        "machines": found_machines,
        "machine_count": machine_count,
        "rows": rows,
        "row_count": row_count,
        "holds": holds,
        "has_more_holds": has_more,
        "windows": brakes.upcoming(of_lanes=may_operate),
        "is_watched": _is_watched(),
    }


def steps(state: FleetState, metrics: drain.Metrics) -> list[Step]:
    """Return where the switch stands: running, draining with what is left, drained."""
    left = metrics.running + metrics.stale_running
    verb = "Stopping" if state.mode == Hold.Mode.QUIESCE else "Draining"
    if not state.is_readable:
        return []
    if not state.is_paused:
        return [Step("Running", "now"), Step("Draining", "next"), Step("Drained", "next")]
    if metrics.is_drained:
        return [Step("Running", "done"), Step(verb, "done"), Step("Drained, safe to upgrade", "now")]
    words = f"{verb}, {left:,} left" if metrics.is_available else f"{verb}, the rest is unknown"
    return [Step("Running", "done"), Step(words, "now"), Step("Drained", "next")]


def _remaining(blocker: Blocker) -> Remaining:
    return Remaining(links.of(blocker.ref), blocker, processes.name_of(blocker.worker, blocker.node))


def _is_watched() -> bool:
    try:
        return watching.is_watched()
    except DatabaseError:
        return True


def _actions() -> dict[str, Action]:
    verbs: dict[str, Any] = {
        "pause": actions.pause,
        "resume": actions.resume,
        "hold": actions.hold,
        "release": actions.release,
        "skip-window": actions.skip_window,
    }
    return {name: Action(run, OPERATE) for name, run in verbs.items()}


PAGE = Page(
    name="fleet",
    path="fleet/",
    title="Fleet",
    template="console/fleet/content.html",
    context=context,
    may_view=is_signed_in,
    icon="fleet",
    order=200,
    key="f",
    refresh_seconds=2.0,
    is_shared=True,
    styles=("console/fleet.css",),
    actions=_actions(),
)
"""Shared by all with the same permissions: it shows nothing of an account but to operators of the fleet."""
