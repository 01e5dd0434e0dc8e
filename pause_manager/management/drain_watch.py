"""Follows a drain until nothing is running: one line that is kept up to date on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import Error as DatabaseError

from pause_manager import database, fleet, times
from pause_manager.management.shell import Exit
from pause_manager.models.clock import database_now
from pause_manager.probes import processes
from pause_manager.workloads import WORKER

POLL_SECONDS = 1.0
LOST_SECONDS = 30.0
"""So long nothing but lost leases must be left before waiting is given up: nobody ends them during a pause."""

Say = Callable[[str], None]

ENDINGS = {
    Exit.REFUSED: "Somebody has resumed the fleet: it is not safe to upgrade.",
    Exit.LOST_LEASES: "Not drained: nothing runs any more, but leases of lost workers are left, which end only after "
    "the resume. See what is left of them with `fleet status`: a frozen process can be woken (it continues) or killed. "
    "When no process of them is left it is safe to upgrade; afterwards: `fleet resume --force`.",
    Exit.TIME_IS_UP: "Not drained within --timeout; the fleet stays paused. `fleet status` lists what is still "
    "running, `fleet status --wait` keeps waiting, `fleet resume --force` gives up.",
}
"""What to do when waiting has ended without a drained fleet."""


def wait(say: Say, *, version: int = 0, at_most: float | None, lost_seconds: float = LOST_SECONDS) -> Exit:
    """Return ``OK`` once the pause of ``version`` (or a change of it) has drained and every live worker has obeyed."""
    began = time.monotonic()
    lost_since: float | None = None
    while True:
        shot = _looked()
        if shot is not None:
            say(sentence(shot))
            if not shot["system"]["workersPaused"]:
                return Exit.REFUSED
            metrics = shot["metrics"]
            if metrics["isDrained"] and _all_obey(shot["workers"]) and shot["system"]["version"] >= version:
                return Exit.OK
            is_lost = metrics["staleRunning"] and not metrics["running"]
            lost_since = (lost_since or time.monotonic()) if is_lost else None
            if lost_since is not None and time.monotonic() - lost_since >= lost_seconds:
                return Exit.LOST_LEASES
        if at_most is not None and time.monotonic() - began >= at_most:
            return Exit.TIME_IS_UP
        time.sleep(POLL_SECONDS)


def _all_obey(workers: dict[str, Any]) -> bool:
    return not workers["lagging"] and not workers["lost"]


def _looked() -> dict[str, Any] | None:
    """The snapshot; ``None`` while the database is away, which is waited for."""
    try:
        shot = fleet.snapshot()
    except DatabaseError as error:
        if not database.is_away(error):
            raise
        database.close()
        return None
    return shot


def sentence(shot: dict[str, Any]) -> str:
    """Return where the drain stands, in one line."""
    system, metrics, workers = shot["system"], shot["metrics"], shot["workers"]
    if metrics["status"] == "unavailable":
        return "Cannot tell what is still running."
    parts = [f"{metrics['running']:,} running", f"{metrics['queued']:,} queued"]
    if metrics["staleRunning"]:
        parts.append(f"{metrics['staleRunning']:,} of lost workers")
    if not system["workersPaused"]:
        return f"Not paused: {', '.join(parts)}."
    parts.append(_obeyed(workers["byKind"]))
    if metrics["unreported"]:
        parts.append(f"{metrics['unreported']:,} workers that have not reported yet")
    if metrics["isDrained"] and _all_obey(workers):
        return f"Drained: safe to upgrade ({', '.join(parts[1:])})."
    ends = [blocker["estimatedEnd"] for blocker in metrics["blockers"] or () if blocker["estimatedEnd"]]
    last = f"; the last ends at about {times.written(max(ends))}" if ends else ""
    return f"Draining ({system['mode']}): {', '.join(parts)}{last}."


def _obeyed(by_kind: dict[str, dict[str, int]]) -> str:
    """Agents are told of where there are some."""
    told = [
        f"{count['acknowledged']:,} of {count['total']:,} {kind}s"
        for kind, count in by_kind.items()
        if kind == WORKER or count["total"]
    ]
    return f"{' and '.join(told)} have obeyed"


def table(shot: dict[str, Any]) -> list[str]:
    """The state in full, as lines."""
    system = shot["system"]
    lines = [f"Version {system['version']}. {sentence(shot)}"]
    if system["workersPaused"]:
        by = shot["audit"]["latest"][0]["actor"] if shot["audit"]["latest"] else "?"
        since = f" since {times.written(system['requestedAt'])}" if system["requestedAt"] else ""
        lines.append(f"Paused ({system['mode']}){since} by {by}: {system['reason']}")
    if shot["deadline"]:
        lines.append(f"Becomes a quiesce at {times.written(shot['deadline'])}.")
    now = database_now()
    lines += [_line(blocker, now) for blocker in shot["metrics"]["blockers"] or ()]
    return [*lines, *(f"Warning: {warning}" for warning in shot["warnings"])]


def _line(blocker: dict[str, Any], now: datetime) -> str:
    """``vm: orders.tasks.charge (task 5bd12acf), for 2 s``."""
    who = processes.name_of(blocker["worker"], blocker["node"])
    kind, _, name = blocker["run"].rpartition(":")
    of = f"{kind or 'run'} {name[:8]}"
    item = f"item {blocker['item']} of {blocker['stage']}" if blocker["item"] else blocker["stage"]
    since = (now - datetime.fromisoformat(blocker["since"])).total_seconds()
    line = f"  {who}: {item} ({of}), for {times.length(since)}"
    if blocker["isStale"]:
        return f"{line}, {_lost(blocker)}"
    end = blocker["estimatedEnd"]
    return f"{line}, ends at about {times.written(end)}" if end else line


def _lost(blocker: dict[str, Any]) -> str:
    """Return what became of a lost worker, as far as this machine can see."""
    owner = blocker["worker"]
    if processes.is_dead(owner):
        return "its worker is lost: the process has ended"
    if processes.is_here(owner):
        return "its worker is lost: the process exists and does not respond"
    where = f"for process {pid} on {blocker['node']}" if (pid := processes.pid_of(owner)) else f"on {blocker['node']}"
    return f"its worker is lost: look {where}"
