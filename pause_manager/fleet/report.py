"""What an operator sees of the fleet switch: figures, who has obeyed, what is overdue, what may be done now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pause_manager import conf, times
from pause_manager.fleet.drain import Metrics
from pause_manager.holds.fleet_state import FLEET, FleetState
from pause_manager.models import ControlEvent, Hold
from pause_manager.models.clock import database_now
from pause_manager.nodes import known_tasks, members
from pause_manager.nodes.members import Workers
from pause_manager.probes import processes
from pause_manager.workloads import AGENT, Blocker

MOST_EVENTS = 50
MOST_NAMES = 20
_ACTIONS = {"hold_placed": "pause", "hold_altered": "pause", "hold_released": "resume"}

IMPACTS = {
    "pause": "Workers take no new work. With drain, what is leased and every running task continues to its end; with "
    "quiesce, it stops at its next item. Nothing is lost.",
    "resume": "Workers take work again and what was stopped continues from where it is. Other holds stay in force.",
    "forceResume": "The same although something is still running: what was lost is handed out again, and an upgrade "
    "in progress may meet new work.",
}


def snapshot(
    state: FleetState, metrics: Metrics, *, latest: int, with_blockers: bool, agents: set[str] | None = None
) -> dict[str, Any]:
    """The snapshot, for JSON. ``agents`` are those that it may name; ``None``: all."""
    workers = members.of_version(state.version) if state.is_readable else Workers()
    if agents is not None:
        workers = workers.naming(agents)
    figures = metrics.as_dict()
    figures["blockers"] = [one.as_dict() for one in metrics.blockers] if with_blockers else None
    return {
        "system": state.as_dict(),
        "deadline": _deadline(state),
        "metrics": figures,
        "workers": workers.as_dict(),
        "warnings": _warnings(state, metrics, workers, with_blockers),
        "commands": commands(state, metrics),
        "audit": {"latest": changes(latest) if state.is_readable else []},
    }


def changes(count: int) -> list[dict[str, Any]]:
    """The last accepted changes of the switch, newest first."""
    events = ControlEvent.objects.of_scope(FLEET).filter(action__in=_ACTIONS, details__kind=Hold.Kind.OPERATOR)
    return [
        {
            "id": event.pk,
            "action": _ACTIONS[event.action],
            "mode": event.details.get("mode"),
            "reason": event.reason,
            "actor": event.actor,
            "channel": event.channel,
            "requestId": event.request_id or None,
            "version": event.details.get("version"),
            "forced": bool(event.details.get("forced")),
            "createdAt": event.at.isoformat(),
        }
        for event in events[: min(count, MOST_EVENTS)]
    ]


def commands(state: FleetState, metrics: Metrics) -> list[dict[str, Any]]:
    """What can be done now, what it does and what undoes it; or why it cannot be done."""
    not_paused = "" if state.is_paused else "The fleet is not paused."
    not_drained = "" if metrics.is_drained else "The fleet is not drained: something is still running."
    unreadable = "" if state.is_readable else "The state of the fleet cannot be read."
    listed = (
        ("pause", unreadable, "resume", True),
        ("resume", unreadable or not_paused or not_drained, "pause", False),
        ("forceResume", unreadable or not_paused, "pause", True),
    )
    return [
        {
            "name": name,
            "available": not reason,
            "unavailableReason": reason or None,
            "impact": IMPACTS[name],
            "rollbackAction": rollback,
            "needsConfirmation": needs_confirmation,
        }
        for name, reason, rollback, needs_confirmation in listed
    ]


def overdue(state: FleetState, metrics: Metrics) -> list[tuple[Blocker, str]]:
    """Work that was not given back within ``quiesce_seconds`` of a quiesce, each with the sentence that warns of it.

    What lost workers had is told of elsewhere.
    """
    allowed = conf.settings().quiesce_seconds
    if state.mode != Hold.Mode.QUIESCE or state.mode_since is None or not metrics.blockers:
        return []
    late = database_now() - state.mode_since
    if late <= timedelta(seconds=allowed):
        return []
    return [
        (
            one,
            f"{processes.name_of(one.worker, one.node)} still has item {one.item or '?'} of {one.stage} of {one.ref}, "
            f"{late.total_seconds():.0f} s after the quiesce.",
        )
        for one in metrics.blockers
        if not one.is_stale
    ]


_LOST = {
    True: "They end only after the resume; if no process of those workers is left, nothing is running in them.",
    False: "They are about to be handed out again.",
}


def _warnings(state: FleetState, metrics: Metrics, workers: Workers, with_blockers: bool) -> list[str]:
    found = [] if metrics.is_available else ["Cannot tell what is still running: do not treat the fleet as drained."]
    if metrics.stale_running:
        found.append(f"Leases of workers that were lost: {metrics.stale_running}. {_LOST[state.is_paused]}")
    if metrics.unreported:
        found.append(f"Workers that have not said yet what they have in hand under this pause: {metrics.unreported}.")
    if workers.lost:
        names = ", ".join(worker["name"] for worker in workers.lost[:5])
        found.append(
            f"{len(workers.lost)} of {workers.total} workers are silent, so nobody knows what they do: {names}."
        )
    if workers.namesakes:
        found.append(
            f"Several workers at once are called {', '.join(workers.namesakes[:5])}: give each a name of its own (-n), "
            "or nobody can tell them apart."
        )
    if workers.lagging:
        names = ", ".join(worker["name"] for worker in workers.lagging[:5])
        who = "workers and agents" if workers.by_kind[AGENT].total else "workers"
        found.append(f"{len(workers.lagging)} of {workers.total} {who} have not acknowledged the change: {names}.")
    late = overdue(state, metrics)
    if with_blockers:
        found += [sentence for _, sentence in late]
    elif late:
        found.append(f"{len(late)} pieces of work outlast the quiesce.")
    found += metrics.warnings
    return found + _windows() + _parked(with_blockers) if state.is_readable else found


def _windows() -> list[str]:
    """The pause windows that hold the fleet, which the switch does not show."""
    holds = Hold.objects.covering([FLEET]).filter(kind=Hold.Kind.WINDOW, expires_at__isnull=False)
    return [
        f"The pause window {hold.actor.partition(':')[2]} holds the fleet until {times.written(hold.expires_at)}: "
        f"{hold.reason}. A resume does not end it (manage.py window skip)."
        for hold in holds
        if hold.expires_at is not None
    ]


def _parked(with_names: bool) -> list[str]:
    """What is parked and would find nobody after the resume, or has found nobody."""
    parked = known_tasks.stuck_messages()
    found = [str(one) for one in parked.unknown[:MOST_NAMES]] if with_names else []
    if more := sum(one.count for one in parked.unknown[len(found) :]):
        found.append(f"{more:,} {'more ' if found else ''}parked messages are of tasks that no live worker knows.")
    if parked.stuck:
        told = ", ".join(f"{count:,} {problem}" for problem, count in sorted(parked.stuck.items()))
        found.append(f"Parked messages that nobody takes up: {told}. `manage.py pause_queue` says why.")
    return found


def _deadline(state: FleetState) -> str | None:
    if not state.is_paused or not state.is_readable:
        return None
    hold = Hold.objects.covering([FLEET]).filter(kind=Hold.Kind.OPERATOR, expires_at__isnull=False).first()
    return hold.expires_at.isoformat() if hold and hold.expires_at else None
