"""The only writer of :class:`Resource`: limits, "too much", the probe, the ramp, the starts of a minute.

Locks are taken in the order of docs/architecture.md, "Lock order".

Every wait here ends by the clock of the database: a hold of kind ``throttled`` has an end, and what is not as it should
be (a resource that is held without a hold) is put right by :func:`advance`, with each beat.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, NamedTuple

from django.db import connection, transaction

from pause_manager import conf, holds, scopes, workloads
from pause_manager.actor import SYSTEM, Actor
from pause_manager.errors import InvalidResource
from pause_manager.models import Hold, Resource
from pause_manager.observability import audit, metrics
from pause_manager.resources.limits import IS_LIMITED, PERMITTED, RESOURCE, values

logger = logging.getLogger("pause_manager.resources.writer")

THROTTLED = metrics.counter(
    "slackwater_resource_throttled_total", 'Times a resource said "too much" and was paused.', ("resource",)
)

SHORTEST_SECONDS = 1.0
LONGEST_ASKED_SECONDS = 86_400.0
"""However long a provider asks to wait, it is asked again after a day."""
NEWS_SECONDS = 1.0
"""Of those who use it at once each is told "too much": an end that is no later than this is no news."""
WORTH_SECONDS = 1.0
"""The starts that are taken at once are used within so long."""


class Throttled(NamedTuple):
    """Until when a resource is let alone, and whether it was not yet."""

    until: datetime
    is_new: bool


Limits = Mapping[str, int | None]


def throttle(name: str, seconds: float, *, actor: Actor, told: str) -> Throttled:
    """Resource ``name`` said "too much" and asks to wait ``seconds``: nobody uses it until then.

    ``told`` names who was told so. While it is asked again, or just was, the wait is at least twice the one before (up
    to ``longest_throttle_seconds``, and never less than what it asks for). Raises ``InvalidResource``.
    """
    _check_name(name)
    asked = min(max(seconds, SHORTEST_SECONDS), LONGEST_ASKED_SECONDS) if isfinite(seconds) else LONGEST_ASKED_SECONDS
    with transaction.atomic():
        _make(name)
        holds.exclude_starts([scopes.resource(name)])
        before = Resource.objects.get(name=name)
        at_work = before.at_work if before.state != Resource.State.OPEN else workloads.in_use({name: None})[name]
        with connection.cursor() as cursor:
            cursor.execute(
                _THROTTLE,
                {
                    "name": name,
                    "asked": asked,
                    "longest": conf.settings().longest_throttle_seconds,
                    "told": told[:300],
                    "at_work": max(1, at_work),
                    "news": NEWS_SECONDS,
                },
            )
            row = cursor.fetchone()
        if row is None:
            assert before.next_probe_at is not None
            return Throttled(before.next_probe_at, is_new=False)
        until, waits = row
        _hold(name, until, f"it said “too much” to {told}: it is asked again after {waits:g} s", actor)
        is_new = before.state != Resource.State.HELD
        if is_new:
            transaction.on_commit(lambda: THROTTLED.add(1, resource=name), robust=True)
    return Throttled(until, is_new)


def _hold(name: str, until: datetime, reason: str, actor: Actor) -> None:
    scope = [scopes.resource(name)]
    options: dict[str, Any] = {"kind": Hold.Kind.THROTTLED, "mode": Hold.Mode.QUIESCE, "actor": actor}
    options |= {"reason": reason, "expires_at": until, "on_expiry": Hold.OnExpiry.RESUME}
    if not holds.place(scope, **options):
        holds.alter(scope, **options)


def begin_probe(names: Collection[str]) -> None:
    """The holds of kind ``throttled`` on these have ended, in this transaction: one may ask each of them again."""
    with connection.cursor() as cursor:
        cursor.execute(_PROBE, {"names": sorted(names)})
        probed = [row[0] for row in cursor.fetchall()]
    for name in probed:
        # Who was in a long item all the while would continue, and not be the only one.
        workloads.resource_changed(name, f"Resource {name} said “too much”, and one loop or task asks it again.")


def answered(names: Collection[str]) -> list[str]:
    """Work that used these resources was not told "too much"; those that were being asked again are used more now."""
    if not names:
        return []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ANSWERED, {"names": sorted(names)})
        found = [row[0] for row in cursor.fetchall()]
        _tell("resource_answered", found, "It answered when it was asked again; the others follow step by step.")
    return found


def ask_again(name: str, *, actor: Actor, reason: str = "") -> bool:
    """End the wait of a resource that said "too much": one asks it again now. False if it does not wait."""
    _check_name(name)
    return bool(holds.release([scopes.resource(name)], kind=Hold.Kind.THROTTLED, actor=actor, reason=reason))


def advance() -> list[str]:
    """Carry on what only the clock decides; returns the resources that changed. Safe to run twice at once.

    A ramp that has reached what used the resource before is over; what is held without a hold is asked again.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_OVER, values())
        over = [row[0] for row in cursor.fetchall()]
        _tell("resource_open", over, "It has answered as many as used it before.")
        cursor.execute(_ORPHANED)
        orphaned = [row[0] for row in cursor.fetchall()]
    for name in orphaned:
        logger.warning("Resource %s was held without a hold: it is asked again.", name)
    return over + orphaned


def set_limits(name: str, limits: Limits, *, actor: Actor, reason: str = "") -> Resource:
    """Set ``max_at_once`` and ``max_per_minute`` of ``name``, those that ``limits`` has; ``None`` takes one away.

    Nothing that uses it is interrupted: a lower limit is reached as work ends. Raises ``InvalidResource``.
    """
    _check_name(name)
    for limit, value in limits.items():
        if limit not in ("max_at_once", "max_per_minute"):
            raise InvalidResource(f"Cannot limit {name}: expected max_at_once or max_per_minute, got: {limit!r}.")
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (is_whole and 1 <= value <= MOST):
            raise InvalidResource(f"Cannot limit {name}: expected {limit} from 1 to {MOST:,} or none, got: {value!r}.")
    with transaction.atomic():
        _make(name)
        # Nothing starts meanwhile: what is leased without a look at the new limit is committed, and counts.
        holds.exclude_starts([scopes.resource(name)])
        row = Resource.objects.get(name=name)
        was = {limit: getattr(row, limit) for limit in limits}
        if was != dict(limits):
            Resource.objects.filter(pk=row.pk).update(**limits)
            workloads.resource_changed(name, f"The limits of resource {name} were changed.")
            audit.record(
                "resource_limited",
                scope=scopes.resource(name),
                actor=actor,
                reason=reason,
                before=was,
                after=dict(limits),
            )
        return Resource.objects.get(pk=row.pk)


MOST = 1_000_000


def swap_limit(
    name: str, limit: str, value: int | None, *, only_if: tuple[int | None] | None = None
) -> tuple[int | None] | None:
    """Give ``name`` another ``max_at_once`` or ``max_per_minute``; return the one it had, in a tuple.

    In the caller's transaction, without an event. ``None``: it has another limit than that in ``only_if``.
    """
    _make(name)
    holds.exclude_starts([scopes.resource(name)])
    had: int | None = Resource.objects.values_list(limit, flat=True).get(name=name)
    if only_if is not None and had != only_if[0]:
        return None
    Resource.objects.filter(name=name).update(**{limit: value})
    workloads.resource_changed(name, f"The limits of resource {name} were changed.")
    return (had,)


def lock(names: Collection[str]) -> list[str]:
    """Lock those of ``names`` that have a limit now, until the caller's transaction ends; returns them.

    Before the rows of runs and the share of holds. Who starts work that uses one counts after that.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, {"names": sorted(names)})
        return [row[0] for row in cursor.fetchall()]


def lock_all(names: Collection[str]) -> None:
    """Lock the rows of ``names``, by name: the holds on them are about to change."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {RESOURCE} WHERE name = ANY(%s) ORDER BY name FOR NO KEY UPDATE", [list(names)])


def take_starts(name: str, most: int) -> tuple[int, float]:
    """Take up to ``most`` starts of ``name`` now: (how many, seconds until there is one if it is none).

    Never more than ``max_per_minute`` start in any 60 s, as long as what is taken is used within a second: a batch is
    followed by as long a rest as it is worth. One statement; -1 for a resource without that limit.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"name": name, "most": most, "worth": WORTH_SECONDS})
        row = cursor.fetchone()
        if row is not None:
            return int(row[0]), 0.0
        cursor.execute(_NEXT, {"name": name})
        row = cursor.fetchone()
    return (-1, 0.0) if row is None else (0, max(0.0, float(row[0])))


def _make(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_MAKE, {"name": name})


def _check_name(name: str) -> None:
    if not scopes.RESOURCE_NAME.fullmatch(name):
        raise InvalidResource(f"Cannot name a resource {name!r}: expected {scopes.RESOURCE_NAMES}.")


def _tell(action: str, names: Sequence[str], sentence: str) -> None:
    if names:
        audit.record_each(action, [(scopes.resource(name), {}) for name in names], actor=SYSTEM, reason=sentence)


_MAKE = f"""
    INSERT INTO {RESOURCE} (name) VALUES (%(name)s) ON CONFLICT DO NOTHING
"""

# Who is told so while it is let alone was using it when the first was told: its end counts, if it is later.
_THROTTLE = f"""
    UPDATE {RESOURCE} AS resource
       SET state = 'held', throttled_at = statement_timestamp(), throttled_by = %(told)s, wait_seconds = next.seconds,
           next_probe_at = statement_timestamp() + make_interval(secs => next.seconds),
           strikes = resource.strikes + (resource.state <> 'held')::int, at_work = %(at_work)s,
           probing_since = NULL, ramping_since = NULL, updated_at = statement_timestamp()
      FROM (SELECT name, CASE WHEN state IN ('probing', 'ramping')
                              THEN greatest(%(asked)s::float8, least(%(longest)s::float8, 2 * wait_seconds))
                              ELSE %(asked)s::float8 END AS seconds
              FROM {RESOURCE} WHERE name = %(name)s) AS next
     WHERE resource.name = next.name
       AND (resource.state <> 'held'
            OR statement_timestamp() + make_interval(secs => next.seconds - %(news)s::float8) > resource.next_probe_at)
 RETURNING resource.next_probe_at, resource.wait_seconds
"""

_PROBE = f"""
    UPDATE {RESOURCE} SET state = 'probing', probing_since = statement_timestamp(), updated_at = statement_timestamp()
     WHERE name = ANY(%(names)s) AND state = 'held'
 RETURNING name
"""

_ANSWERED = f"""
    UPDATE {RESOURCE} SET state = 'ramping', ramping_since = statement_timestamp(), updated_at = statement_timestamp()
     WHERE name = ANY(%(names)s) AND state = 'probing'
 RETURNING name
"""

_OVER = f"""
    UPDATE {RESOURCE} AS resource
       SET state = 'open', strikes = 0, wait_seconds = 0, ramping_since = NULL, next_probe_at = NULL, at_work = 0,
           updated_at = statement_timestamp()
     WHERE resource.state = 'ramping' AND {PERMITTED} >= greatest(resource.at_work, 2)
 RETURNING resource.name
"""

_ORPHANED = f"""
    UPDATE {RESOURCE} AS resource
       SET state = 'probing', probing_since = statement_timestamp(), updated_at = statement_timestamp()
     WHERE resource.state = 'held' AND resource.next_probe_at <= statement_timestamp() AND NOT EXISTS (
           SELECT FROM {Hold._meta.db_table}
            WHERE released_at IS NULL AND kind = 'throttled' AND scope = 'resource:' || resource.name)
 RETURNING resource.name
"""

_LOCK = f"""
    SELECT resource.name FROM {RESOURCE} AS resource
     WHERE resource.name = ANY(%(names)s) AND {IS_LIMITED} ORDER BY resource.name FOR NO KEY UPDATE
"""

# A batch of n starts is followed by a rest of n x 61 / (limit - n + 1) seconds: what starts within 60 s was taken
# within 61, and of what was taken within 61 s all but the last batch is less than limit - n + 1.
_TAKE = f"""
    UPDATE {RESOURCE} AS resource
       SET next_start_at = clock_timestamp() + make_interval(
               secs => batch.size * (60 + %(worth)s::float8) / (resource.max_per_minute - batch.size + 1))
      FROM (SELECT name, greatest(1, least(%(most)s::int, floor(max_per_minute * %(worth)s::float8 / 60)))::int AS size
              FROM {RESOURCE} WHERE name = %(name)s AND max_per_minute IS NOT NULL) AS batch
     WHERE resource.name = batch.name AND resource.max_per_minute IS NOT NULL
       AND (resource.next_start_at IS NULL OR resource.next_start_at <= clock_timestamp())
 RETURNING batch.size
"""

_NEXT = f"""
    SELECT extract(epoch FROM next_start_at - clock_timestamp())::float8 FROM {RESOURCE}
     WHERE name = %(name)s AND max_per_minute IS NOT NULL AND next_start_at IS NOT NULL
"""
