"""Machines as the fleet page shows them: what is used of each, by whom, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pause_manager.console import charts, links
from pause_manager.console.charts import Bar
from pause_manager.console.links import Link
from pause_manager.models import CapacitySample, ControlEvent, Hold, WorkerNode
from pause_manager.models.clock import database_now
from pause_manager.nodes import report
from pause_manager.nodes.persisted_state import PersistedNodeState
from pause_manager.scopes import parse

MOST_MACHINES = 60
MOST_WORK = 6
"""Kinds of work that a machine names; more are counted."""
HOUR = timedelta(hours=1)
CONTENDED_SECONDS = 120.0
"""For so long after work was last asked to give way a machine is called contended."""


@dataclass(frozen=True)
class Minute:
    """One minute of the last hour, in cores."""

    at: datetime
    ours: float
    others: float


@dataclass(frozen=True)
class Machine:
    """One machine. ``state`` is a class of the style sheet, ``words`` says it."""

    name: str
    state: str
    words: str
    why: str
    age_seconds: float
    bars: tuple[Bar, ...]
    hold: Hold | None
    work: tuple[tuple[Link, int], ...]
    more_work: int
    minutes: tuple[Minute, ...]
    ours_path: str
    others_path: str
    note: str = ""

    @property
    def is_stale(self) -> bool:
        """Whether its figures are old."""
        return self.state == "offline"

    @property
    def minute_rows(self) -> list[tuple[datetime, tuple[float, float]]]:
        """The table of the last hour."""
        return [(one.at, (one.ours, one.others)) for one in self.minutes]


def of_all(*, names_work: bool) -> tuple[list[Machine], int]:
    """Return the machines seen within the last hour, those with a problem first, and how many there are.

    ``names_work``: name what runs where. A constant number of statements.
    """
    shown = sorted(report.shown(), key=lambda node: (node["is_online"] and node["is_consuming"], node["id"]))
    found = shown[:MOST_MACHINES]
    names = [node["id"] for node in found]
    scopes = [f"node:{name}" for name in names]
    holds = {parse(hold.scope)[1]: hold for hold in Hold.objects.covering(scopes)}
    reasons, states, minutes = _reasons(scopes), _states(names), _history(names)
    now = database_now()
    machines = []
    for node in found:
        name = node["id"]
        state, words, why = _state(node, holds.get(name), states.get(name), reasons.get(name, ""), now)
        work = Counter(links.of(load["ref"]) for load in node["loads"]).most_common() if names_work else []
        hour = minutes.get(name, [])
        machines.append(
            Machine(
                name=name,
                state=state,
                words=words,
                why=why,
                age_seconds=node["age_seconds"],
                bars=tuple(_bars(node)),
                hold=holds.get(name),
                work=tuple(work[:MOST_WORK]),
                more_work=len(work[MOST_WORK:]) if names_work else len(node["loads"]),
                minutes=tuple(hour),
                ours_path=_path(hour, node["cores"], now, with_others=False),
                others_path=_path(hour, node["cores"], now, with_others=True),
                note=node["gpu_note"] if not node["gpu_problem"] else "",
            )
        )
    return machines, len(shown)


def _state(
    node: dict[str, Any], hold: Hold | None, kept: PersistedNodeState | None, reason: str, now: datetime
) -> tuple[str, str, str]:
    if not node["is_online"]:
        return "offline", "Silent", "It does not report: what it does is unknown, and it gets no new work."
    if hold is not None:
        return "held", "Held", ""
    if kept is not None and kept.state.is_saturated:
        return "saturated", "Saturated", reason or "It takes no new work until it has room again."
    contended_at = kept.state.contended_at if kept is not None else None
    if contended_at is not None and now.timestamp() - contended_at < CONTENDED_SECONDS:
        return "contended", "Contended", reason or "Work of ours was asked to give way."
    if not node["is_consuming"]:
        return "saturated", "Takes no new work", reason
    return "ready", "Ready", ""


def _bars(node: dict[str, Any]) -> Iterable[Bar]:
    threshold = node["pause_below"]
    mark = round(charts.WIDTH * (1 - threshold), 2)
    mark_title = f"New work starts while at least {threshold:.0%} is free."
    others = min(node["steady_foreign_cores"], node["cores"])
    yield _bar("Cores", node["cores"], node["own_cores"], others, node["room_cores"], _cores, mark, mark_title)
    used = node["memory_mib"] - node["free_memory_mib"]
    ours = min(node["own_memory_mib"], used)
    yield _bar("Memory", node["memory_mib"], ours, used - ours, node["room_memory_mib"], _mib, mark, mark_title)
    if node["gpu_problem"]:
        yield Bar("GPUs", (), "", problem=node["gpu_problem"])
    for gpu in node["gpus"]:
        title = f"GPU {gpu['index']}" + (f" {gpu['name']}" if gpu["name"] else "")
        facts = [f"{gpu['utilisation']:.0%} busy"] if gpu["utilisation"] is not None else []
        facts += [f"{gpu['temperature_c']} °C"] if gpu["temperature_c"] is not None else []
        note = " · ".join([*facts, *filter(None, [gpu["note"]])])
        if gpu["problem"] or gpu["free_mib"] is None:
            yield Bar(title, (), "", problem=gpu["problem"] or "Its memory cannot be read.", note=note)
            continue
        used = gpu["total_mib"] - gpu["free_mib"]
        ours = min(gpu["own_mib"], used)
        room = gpu["free_mib"] if gpu["room_mib"] is None else gpu["room_mib"]
        yield _bar(title, gpu["total_mib"], ours, used - ours, room, _mib, mark, mark_title, note)


def _bar(
    title: str,
    total: float,
    ours: float,
    others: float,
    room: float,
    words: Any,
    mark: float,
    mark_title: str,
    note: str = "",
) -> Bar:
    ours = min(ours, max(0.0, total - others))
    unused = max(0.0, total - ours - others)
    free = min(unused, max(0.0, room))
    amounts = [("ours", ours), ("reserved", unused - free), ("others", others)]
    parts = charts.stacked(total, [(kind, amount, words(amount)) for kind, amount in amounts])
    return Bar(title, parts, f"{words(free)} of {words(total)} free", mark, mark_title, note=note)


def _cores(amount: float) -> str:
    return f"{round(amount, 1):g}"


def _mib(amount: float) -> str:
    return f"{amount / 1024:.1f} GiB" if amount >= 1024 else f"{amount:.0f} MiB"


def _reasons(scopes: list[str]) -> dict[str, str]:
    """Return by machine the sentence of the last judgement on it."""
    events = (
        ControlEvent.objects.filter(
            scope__in=scopes, action__in=["node_saturated", "yield_wanted"], at__gt=database_now() - HOUR
        )
        .order_by("scope", "-id")
        .distinct("scope")
    )
    return {parse(scope)[1]: reason for scope, reason in events.values_list("scope", "reason")}


def _states(names: list[str]) -> dict[str, PersistedNodeState]:
    rows = WorkerNode.objects.filter(name__in=names).values_list("name", "policy_state")
    return {name: PersistedNodeState.of_dict(state) for name, state in rows}


def _history(names: list[str]) -> dict[str, list[Minute]]:
    rows = CapacitySample.objects.filter(node__name__in=names, minute__gt=database_now() - HOUR).order_by("minute")
    found: dict[str, list[Minute]] = {}
    for name, at, ours, others in rows.values_list("node__name", "minute", "own_cores", "foreign_cores"):
        found.setdefault(name, []).append(Minute(at, ours, others))
    return found


def _path(minutes: list[Minute], cores: float, now: datetime, *, with_others: bool) -> str:
    points = [(1 - (now - one.at) / HOUR, one.ours + (one.others if with_others else 0.0)) for one in minutes]
    return charts.area(points, cores)
