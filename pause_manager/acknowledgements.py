"""Which workers live and which version of the fleet switch each obeys: the only writer of :class:`FleetWorker`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now

from pause_manager import conf
from pause_manager.models import FleetWorker

SILENT_BEATS = 2
_REMEMBERED = timedelta(hours=1)


@dataclass(frozen=True)
class Workers:
    """The workers that live, those of them that obey the version asked about, and the others, by name."""

    total: int = 0
    acknowledged: int = 0
    lagging: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"total": self.total, "acknowledged": self.acknowledged, "lagging": self.lagging}


def acknowledge(name: str, *, node: str, queues: Iterable[str], version: int) -> None:
    """Note that the worker lives and obeys ``version``; times are the database's."""
    with connection.cursor() as cursor:
        cursor.execute(_ACKNOWLEDGE, {"name": name, "node": node, "queues": sorted(queues), "version": version})


def leave(name: str) -> None:
    """The worker has ended of its own accord."""
    FleetWorker.objects.filter(name=name).delete()


def of_version(version: int) -> Workers:
    """Who obeys ``version``. A worker that was silent for two beats may have missed it, and counts as lagging."""
    settings = conf.settings()
    beat = settings.worker_beat_seconds
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, {"gone": beat * settings.missed_worker_beats})
        rows = cursor.fetchall()
    lagging = [
        {
            "name": name,
            "node": node,
            "acknowledgedVersion": acknowledged,
            "lastSeenAt": seen_at.isoformat(),
            "silentSeconds": round(silent, 1),
        }
        for name, node, acknowledged, seen_at, silent in rows
        if acknowledged < version or silent > SILENT_BEATS * beat
    ]
    return Workers(len(rows), len(rows) - len(lagging), lagging)


def queues() -> list[str]:
    """The queues that live workers serve, held or not."""
    gone = timedelta(seconds=conf.settings().worker_beat_seconds * conf.settings().missed_worker_beats)
    rows = FleetWorker.objects.filter(last_seen_at__gte=Now() - gone).values_list("queues", flat=True)
    return sorted({queue for served in rows for queue in served})


def forget_gone() -> None:
    """Delete the rows of workers that were not seen for an hour."""
    FleetWorker.objects.filter(last_seen_at__lt=Now() - _REMEMBERED).delete()


_WORKER = FleetWorker._meta.db_table

_ACKNOWLEDGE = f"""
    INSERT INTO {_WORKER} AS worker (name, node, queues, acknowledged_version, acknowledged_at, last_seen_at)
    VALUES (%(name)s, %(node)s, %(queues)s, %(version)s, clock_timestamp(), clock_timestamp())
        ON CONFLICT (name) DO UPDATE
       SET node = excluded.node, queues = excluded.queues, last_seen_at = clock_timestamp(),
           acknowledged_at = CASE WHEN worker.acknowledged_version = excluded.acknowledged_version
                                  THEN worker.acknowledged_at ELSE clock_timestamp() END,
           acknowledged_version = excluded.acknowledged_version
"""

_LIVE = f"""
    SELECT name, node, acknowledged_version, last_seen_at,
           extract(epoch FROM statement_timestamp() - last_seen_at)::float
      FROM {_WORKER} WHERE last_seen_at >= statement_timestamp() - make_interval(secs => %(gone)s) ORDER BY name
"""
