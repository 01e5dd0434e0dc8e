"""Workers and agents as the fleet page lists them: what each obeys, serves and has in hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models.functions import Now

from pause_manager import workloads
from pause_manager.models import FleetWorker
from pause_manager.nodes import members
from pause_manager.workloads import AGENT, WORKER, Member

MOST_ROWS = 200


@dataclass(frozen=True)
class Row:
    """One worker or agent. ``state`` is a class of the style sheet, ``words`` says it."""

    key: str
    name: str
    kind: str
    node: str
    queues: tuple[str, ...]
    running: int
    received: int
    places: int | None
    version: int
    state: str
    words: str
    seen_at: datetime


def of_version(version: int, *, names_agents: bool) -> tuple[list[Row], int]:
    """Return who takes work, those who lag or are lost first, and how many there are.

    ``version``: of the fleet switch, that they are to obey.
    """
    rows = sorted([*_workers(version), *_agents(version, names_agents)], key=lambda row: (row.state == "ok", row.name))
    return rows[:MOST_ROWS], len(rows)


def _workers(version: int) -> Iterable[Row]:
    live = FleetWorker.objects.filter(last_seen_at__gte=Now() - timedelta(seconds=members.gone_seconds())).with_age()
    rows = live.only("key", "name", "node", "serves", "in_hand", "places", "acknowledged_version", "last_seen_at")
    for row in rows.order_by("key")[: 5 * MOST_ROWS]:
        silent: timedelta = row.unseen  # type: ignore[attr-defined]
        member = Member(WORKER, row.name, row.node, row.acknowledged_version, row.last_seen_at, silent.total_seconds())
        state, words = _state(member, version)
        counts = list(row.in_hand.values())
        yield Row(
            key=f"worker-{row.pk}",
            name=row.name,
            kind="worker",
            node=row.node,
            queues=tuple(row.serves),
            running=sum(count[0] for count in counts),
            received=sum(count[1] for count in counts),
            places=row.places,
            version=row.acknowledged_version,
            state=state,
            words=words,
            seen_at=row.last_seen_at,
        )


def _agents(version: int, names_agents: bool) -> Iterable[Row]:
    for number, member in enumerate(workloads.members()):
        if member.kind != AGENT:
            continue
        state, words = _state(member, version)
        yield Row(
            key=f"agent-{number}",
            name=member.name if names_agents else AGENT,
            kind="agent",
            node=member.node if names_agents else "",
            queues=(),
            running=0,
            received=0,
            places=None,
            version=member.version,
            state=state,
            words=words,
            seen_at=member.seen_at,
        )


def _state(member: Member, version: int) -> tuple[str, str]:
    if member.is_lost:
        return "lost", f"Lost: silent for {member.silent_seconds:.0f} s"
    if member.lags(version):
        return "lagging", "Lagging: has not acknowledged the last change"
    return "ok", "Up to date"
