"""Whether one more task may use its resources now, and how many may be sent on. The same rule as for loops."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import connection

from pause_manager import conf, holds, workloads
from pause_manager.models import PauseQueueEntry, Resource
from pause_manager.resources import writer
from pause_manager.resources.limits import IS_LIMITED, LIMIT, RESOURCE, STARTS_LATER, values

NEAR_SECONDS = 5.0
"""A task waits in the hand of its worker for a start that is so near."""


class NotYet(Exception):
    """The task may start in ``seconds``, or is to be decided about again then. Nothing was written."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.1f} s")
        self.seconds = seconds


@dataclass(frozen=True)
class Shortage:
    """Why a task must wait, and for how many seconds at least; ``None``: until a place is free."""

    sentence: str
    seconds: float | None = None


@dataclass(frozen=True)
class _Limited:
    name: str
    most: int | None
    state: str
    is_paced: bool
    starts_later: bool
    max_per_minute: int | None


def take_share(uses: Collection[str]) -> list[str]:
    """Lock those of ``uses`` that have a limit, then take the share of holds; returns those that are locked.

    To be called first in a transaction that starts a task, before it locks anything else.
    """
    locked = writer.lock(uses)
    with connection.cursor() as cursor:
        cursor.execute(holds.TAKE_SHARE)
    return locked


def shortage(uses: Collection[str], locked: Collection[str]) -> Shortage | None:
    """Why one more task may not use ``uses``, of which ``locked`` were found to have a limit; ``None`` if it may.

    It is taken to start then: its row must be written in this transaction. Raises :class:`NotYet` if its start is near.
    """
    limited = _limited(uses)
    if not {one.name for one in limited} <= set(locked):
        raise NotYet(0.05)  # a limit was set in between
    used = workloads.in_use({one.name: one.most for one in limited if one.most is not None})
    for one in limited:
        if one.most is not None and used[one.name] >= one.most:
            return Shortage(_full(one))
    for one in limited:
        if one.is_paced:
            count, seconds = writer.take_starts(one.name, 1)
            if count == 0 and seconds <= NEAR_SECONDS:
                raise NotYet(max(seconds, 0.01))
            if count == 0:
                return Shortage(f"Resource {one.name} takes {one.max_per_minute:,} starts a minute.", seconds)
    return None


def what_is_short(uses: Collection[str]) -> dict[str, str]:
    """Why one more task may not use these now, by resource, as it looks at this moment. Nothing is locked or taken."""
    limited = _limited(uses)
    used = workloads.in_use({one.name: one.most for one in limited if one.most is not None})
    found = {}
    for one in limited:
        if one.most is not None and used[one.name] >= one.most:
            found[one.name] = _full(one)
        elif one.starts_later:
            found[one.name] = f"Resource {one.name} takes {one.max_per_minute:,} starts a minute; the next is later."
    return found


def _full(one: _Limited) -> str:
    if one.state == Resource.State.PROBING:
        return f"Resource {one.name} said “too much”, and another asks it again."
    if one.state == Resource.State.RAMPING:
        return f"Resource {one.name} answers again after “too much”: its {one.most} places at once are taken."
    return f"Resource {one.name} is limited to {one.most} at once, and they are taken."


def to_send() -> dict[str, int]:
    """Of each resource that has a limit: how many of the tasks that wait for it may be sent on now."""
    limited = _limited(None)
    if not limited:
        return {}
    used = workloads.in_use({one.name: one.most for one in limited if one.most is not None})
    out: dict[str, int] = {}
    for uses in PauseQueueEntry.objects.unconfirmed().exclude(uses=[]).values_list("uses", flat=True):
        for name in uses:
            out[name] = out.get(name, 0) + 1
    found = {}
    for one in limited:
        places = [] if one.most is None else [one.most - used[one.name]]
        if one.max_per_minute is not None:
            worth = one.max_per_minute * conf.settings().poll_interval_seconds / 60
            places.append(0 if one.starts_later else max(1, int(worth)))
        if places:
            found[one.name] = max(0, min(places) - out.get(one.name, 0))
    return found


def _limited(names: Collection[str] | None) -> list[_Limited]:
    given: dict[str, Any] = {"names": None if names is None else sorted(names), **values()}
    with connection.cursor() as cursor:
        cursor.execute(_LIMITED, given)
        return [_Limited(*row) for row in cursor.fetchall()]


_LIMITED = f"""
    SELECT resource.name, {LIMIT}, resource.state, resource.max_per_minute IS NOT NULL, {STARTS_LATER},
           resource.max_per_minute
      FROM {RESOURCE} AS resource
     WHERE {IS_LIMITED} AND (%(names)s::text[] IS NULL OR resource.name = ANY(%(names)s::text[])) ORDER BY resource.name
"""
