"""Who must obey the fleet switch and which version each obeys: the only writer of :class:`FleetWorker`.

Celery workers have rows here. Others that take work are members by the workload that knows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import combinations, starmap
from typing import Any

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from pause_manager import conf, workloads
from pause_manager.models import FleetWorker, Machine
from pause_manager.probes import processes
from pause_manager.workloads import AGENT, MEMBER_KINDS, WORKER, Member

_REMEMBERED = timedelta(hours=1)


@dataclass(frozen=True)
class Count:
    """How many there are of a kind, how many of them obey, and how many are lost."""

    total: int = 0
    acknowledged: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Workers:
    """Workers and agents that live, those of them that obey the version asked about, and the others, by name.

    Who lags is heard of and has not obeyed yet; who is lost has been silent, and nobody knows.
    """

    total: int = 0
    acknowledged: int = 0
    lagging: list[dict[str, Any]] = field(default_factory=list)
    lost: list[dict[str, Any]] = field(default_factory=list)
    by_kind: dict[str, Count] = field(default_factory=lambda: dict.fromkeys(MEMBER_KINDS, Count()))
    namesakes: list[str] = field(default_factory=list)
    """Names that several workers have at the same time."""

    def naming(self, agents: set[str]) -> Workers:
        """The same for those who are to hear of no agents but ``agents`` what they are called."""
        hidden = {"name": AGENT, "node": ""}
        lagging = [one | hidden if one["kind"] == AGENT and one["name"] not in agents else one for one in self.lagging]
        return replace(self, lagging=lagging)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        by_kind = {kind: vars(count) for kind, count in self.by_kind.items()}
        return {
            "total": self.total,
            "acknowledged": self.acknowledged,
            "lagging": self.lagging,
            "lost": self.lost,
            "byKind": by_kind,
        }


@dataclass(frozen=True)
class Report:
    """What a worker says of itself, all of it at one moment."""

    name: str
    node: str
    queues: Iterable[str]
    version: int
    """Of the fleet switch, that it obeys."""
    revision: int = 0
    """Of the holds on the fleet, queues and nodes, that it obeys."""
    owner: str = ""
    """Its main process, see ``processes.identity``."""
    in_hand: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By queue: how many tasks are running, how many messages were received and neither started nor given back."""
    tasks: Sequence[Mapping[str, Any]] = ()
    """The oldest running tasks: ``task_id``, ``task_name``, ``queue``, and ``seconds`` since each started."""
    task_names: Iterable[str] = ()
    """The tasks that it knows."""
    pipelines: Iterable[str] | None = None
    """The pipelines that it has in its code."""
    places: int | None = None
    """How many tasks it works on at a time."""
    visible_gpus: Sequence[str] | None = None
    """The ids of the GPUs that it may use, if those are not all of its machine."""
    files: Mapping[str, Any] | None = None
    """Where it keeps files, see ``storage_report``."""
    clock: float | None = None
    """The time of its machine, in seconds since the epoch."""
    boot_id: str = ""
    """Of its machine, whose name at the time of the report is that of its node."""
    wanted_node: str = ""
    """The name that it wants its machine to have."""

    def values(self) -> dict[str, Any]:
        """As parameters of :data:`REPORT`."""
        return {
            "key": _key(self.name, self.owner),
            "node": self.node,
            "serves": json.dumps(sorted(self.queues)),
            "version": self.version,
            "revision": self.revision,
            "owner": self.owner,
            "in_hand": json.dumps({queue: list(counts) for queue, counts in self.in_hand.items()}),
            "tasks": json.dumps(list(self.tasks)),
            "task_names": json.dumps(sorted(self.task_names)),
            "pipelines": None if self.pipelines is None else json.dumps(sorted(self.pipelines)),
            "places": self.places,
            "visible_gpus": None if self.visible_gpus is None else json.dumps(list(self.visible_gpus)),
            "files": None if self.files is None else json.dumps(dict(self.files)),
            "clock": self.clock,
            "boot_id": self.boot_id,
            "wanted_node": self.wanted_node,
        }


def _key(name: str, owner: str) -> str:
    """Return what a worker's row is known by. ``owner`` is of one line."""
    return f"{name}\n{owner}" if owner else name


def acknowledge(name: str, *, node: str, queues: Iterable[str], version: int, **known: Any) -> None:
    """Note that the worker lives and obeys ``version``; times are the database's. ``known`` as in :class:`Report`."""
    with connection.cursor() as cursor:
        cursor.execute(REPORT, Report(name, node, queues, version, **known).values())


def leave(name: str, owner: str = "") -> None:
    """The worker has ended by itself."""
    FleetWorker.objects.filter(key=_key(name, owner)).delete()


def succeed(name: str, owner: str) -> None:
    """Forget those that had the name before ``owner`` and whose process has provably ended.

    Of a namesake that may live nobody knows what it has in hand but its own row.
    """
    others = FleetWorker.objects.filter(name=name).exclude(owner=owner).values_list("pk", "owner")
    if ended := [pk for pk, other in others if processes.is_dead(other)]:
        FleetWorker.objects.filter(pk__in=ended).delete()


def of_version(version: int) -> Workers:
    """Return who obeys ``version``, who lags, and who is lost."""
    members = [*_workers(), *workloads.members()]
    late = [member for member in members if member.lags(version)]
    lost = [member for member in members if member.is_lost]
    by_kind = {}
    for kind in MEMBER_KINDS:
        total, lagging, gone = (sum(one.kind == kind for one in some) for some in (members, late, lost))
        by_kind[kind] = Count(total, total - lagging - gone, gone)
    return Workers(
        len(members),
        len(members) - len(late) - len(lost),
        [member.as_dict() for member in late],
        [member.as_dict() for member in lost],
        by_kind,
        _namesakes([member for member in members if not member.is_lost]),
    )


def _namesakes(members: Iterable[Member]) -> list[str]:
    """Names that two have at the same time: each was heard of after the other had come."""
    by_name: dict[str, list[Member]] = {}
    for member in members:
        if member.kind == WORKER and not processes.is_dead(member.owner):
            by_name.setdefault(member.name, []).append(member)
    return [name for name, some in by_name.items() if any(starmap(_overlap, combinations(some, 2)))]


def _overlap(one: Member, other: Member) -> bool:
    return one.since is not None and other.since is not None and one.seen_at > other.since and other.seen_at > one.since


def gone_seconds() -> float:
    """After so long a silence nobody is waited for any more."""
    return conf.settings().gone_seconds


def _workers() -> Iterable[Member]:
    with connection.cursor() as cursor:
        cursor.execute(LIVE, [gone_seconds()])
        return [Member(WORKER, *row) for row in cursor.fetchall()]


def forget_gone() -> None:
    """Delete the rows of workers that were not seen for an hour."""
    FleetWorker.objects.filter(last_seen_at__lt=Now() - _REMEMBERED).delete()


def rename_machine(boot_id: str, old: str, new: str) -> None:
    """Write the new name of a machine to the rows of its workers."""
    FleetWorker.objects.filter(Q(boot_id=boot_id) | Q(boot_id="", node=old)).update(node=new)


_WORKER = FleetWorker._meta.db_table

REPORT = f"""
    INSERT INTO {_WORKER} AS worker
           (name, node, boot_id, wanted_node, serves, acknowledged_version, acknowledged_at, last_seen_at,
            revision, owner, in_hand, tasks, task_names, pipelines, places, visible_gpus, files, clock_offset)
    VALUES (%(key)s, coalesce((SELECT name FROM {Machine._meta.db_table} WHERE boot_id = %(boot_id)s FOR KEY SHARE),
                              %(node)s),
            %(boot_id)s, %(wanted_node)s, %(serves)s::jsonb, %(version)s, clock_timestamp(), clock_timestamp(),
            %(revision)s, %(owner)s, %(in_hand)s::jsonb, %(tasks)s::jsonb, %(task_names)s::jsonb,
            %(pipelines)s::jsonb, %(places)s::int, %(visible_gpus)s::jsonb, %(files)s::jsonb,
            extract(epoch FROM clock_timestamp())::float8 - %(clock)s::float8)
        ON CONFLICT (name) DO UPDATE
       SET node = excluded.node, boot_id = excluded.boot_id, wanted_node = excluded.wanted_node,
           serves = excluded.serves, last_seen_at = clock_timestamp(),
           acknowledged_at = CASE WHEN worker.acknowledged_version = excluded.acknowledged_version
                                  THEN worker.acknowledged_at ELSE clock_timestamp() END,
           acknowledged_version = excluded.acknowledged_version, revision = excluded.revision,
           owner = excluded.owner, in_hand = excluded.in_hand, tasks = excluded.tasks,
           task_names = excluded.task_names, pipelines = excluded.pipelines, places = excluded.places,
           visible_gpus = excluded.visible_gpus, files = excluded.files, clock_offset = excluded.clock_offset
 RETURNING node
"""
"""Keeps the name of the worker's machine until its transaction ends, and answers it."""

LIVE = f"""
    SELECT worker_name, node, acknowledged_version, last_seen_at,
           extract(epoch FROM statement_timestamp() - last_seen_at)::float, owner, acknowledged_at
      FROM {_WORKER} WHERE last_seen_at >= statement_timestamp() - make_interval(secs => %s) ORDER BY worker_name, id
"""
