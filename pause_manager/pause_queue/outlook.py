"""Why what waits for room waits now: as the last poll saw it, not as it was when it was parked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import orjson
from django.db import connection

from pause_manager import conf
from pause_manager.models import PauseQueueEntry, PollState
from pause_manager.reasons import ReasonCode

NO_WORKER = ReasonCode.NO_WORKER

_TOLD = f"""
    SELECT told::text, extract(epoch FROM statement_timestamp() - polled_at)::float8
      FROM {PollState._meta.db_table} WHERE id = 1 AND polled_at IS NOT NULL
"""


@dataclass(frozen=True)
class Outlook:
    """Why an entry waits, with the figures of the last poll, and when it is looked at again."""

    code: str
    why: str
    next_look_seconds: float
    """0 if the poll is late."""

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{self.why} Next look in {self.next_look_seconds:.0f} s."

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"next_look_seconds": round(self.next_look_seconds, 1)}


def of(entries: Iterable[PauseQueueEntry]) -> dict[int, Outlook]:
    """By key, for those of ``entries`` that wait for room and that the last poll looked at. One statement."""
    waiting = [entry for entry in entries if entry.waits_for == "capacity" and entry.finished_at is None]
    if not waiting:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_TOLD)
        row = cursor.fetchone()
    if row is None:
        return {}
    told, age = orjson.loads(row[0]), row[1]
    left = max(0.0, conf.settings().poll_interval_seconds - age)
    by_kind = {_kind(one["queue"], one["pipeline"], one["needs"]): one for one in told}
    found = {}
    for entry in waiting:
        one = by_kind.get(_kind(entry.work_queue, entry.pipeline, entry.needs))
        if one is not None:
            found[entry.pk] = Outlook(one["code"], one["sentence"], left)
    return found


def of_ref(ref: str) -> Outlook | None:
    """The same for the entry that waits for ``ref``, if one does."""
    entry = PauseQueueEntry.objects.waiting().light().filter(ref=ref).first()
    return of([entry]).get(entry.pk) if entry is not None else None


def _kind(queue: str, pipeline: str, needs: dict[str, float]) -> tuple[str, str, tuple[tuple[str, float], ...]]:
    return queue, pipeline, tuple(sorted(needs.items()))
