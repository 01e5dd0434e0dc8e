"""What a chord or a group has so far is kept while a member of it waits, however long that is.

Celery lets results expire after ``result_expires``, a day by default. Without those of the other members the body of a
chord never runs. With the Redis backend their time is renewed here, as long as a member waits; no other backend can.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Any

import redis
from celery import current_app
from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend
from django.core.checks import CheckMessage, Warning
from django.db import connection

from pause_manager.messaging.message import GROUPS
from pause_manager.models import PauseQueueEntry
from pause_manager.observability import metrics

logger = logging.getLogger("pause_manager.pausable.chord_results")

LOOKS = metrics.counter(
    "slackwater_chord_results_looks_total",
    "Times results of chords with parked members were checked.",
)

BATCH = 500
MOST_SECONDS_BETWEEN = 300.0
WAIT_SECONDS = 5.0
SHORT_SECONDS = 40.0
"""Four polls, at the interval that beat has by default."""
_SUFFIXES = ("", ".j", ".t", ".s", ".d")
"""Of a group's keys: its structure, results, difference, size, who is counted. A claim (``.c``) is short by intent."""

_WAITING = f"""
    SELECT DISTINCT jsonb_array_elements_text(message -> '{GROUPS}') FROM {PauseQueueEntry._meta.db_table}
     WHERE (finished_at IS NULL OR (outcome = 'sent' AND confirmed_at IS NULL)) AND message ? '{GROUPS}'
"""
_EXPIRING = f"""
    SELECT count(*) FROM {PauseQueueEntry._meta.db_table}
     WHERE finished_at IS NULL AND message ? '{GROUPS}'
       AND paused_at < statement_timestamp() - make_interval(secs => %(seconds)s)
"""
_LOOKED = "SELECT max(counted_at) > statement_timestamp() - make_interval(secs => %s) FROM {totals} WHERE name = %s"


def keep_alive(app: Any = None) -> int:
    """Renew what the backend holds of every group that waits for a parked member; how many keys needed it.

    Looks at most once in a quarter of the time after which results expire, and writes what has lost a quarter of it.
    """
    app = app or current_app
    lasting = seconds_of(app)
    if not lasting or not can_keep(app) or not _is_due(min(lasting / 4, MOST_SECONDS_BETWEEN)):
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        groups = [row[0] for row in cursor.fetchall()]
    renewed = 0
    if groups:
        with _client(app.backend) as client:
            for batch in _batches(groups):
                renewed += _renew(app.backend, client, batch)
    LOOKS.add()
    if renewed:
        logger.info("%d results of %d groups that wait for parked members last longer.", renewed, len(groups))
    return renewed


def can_keep(app: Any) -> bool:
    """Whether the app's results are where their time can be renewed."""
    return isinstance(_backend(app), RedisBackend)


def seconds_of(app: Any) -> float:
    """After how long the first of what a chord needs is forgotten; 0 for never."""
    both = (app.conf.result_expires, app.conf.get("result_chord_expires"))
    seconds = [one.total_seconds() if isinstance(one, timedelta) else float(one) for one in both if one is not None]
    return min((one for one in seconds if one > 0), default=0.0)


def forgotten_after(app: Any = None) -> timedelta | None:
    """How long after a member was parked the backend may have forgotten others of its group; ``None``: never."""
    app = app or current_app
    lasting = seconds_of(app)
    if not lasting or _has_no_results(app) or can_keep(app):
        return None
    return timedelta(seconds=lasting)


def count_expiring(app: Any = None) -> int:
    """How many parked members wait so long that the results of their groups are about to be forgotten, or are."""
    app = app or current_app
    if _has_no_results(app) or not (lasting := seconds_of(app)):
        return 0
    with connection.cursor() as cursor:
        if can_keep(app):
            table = connection.ops.quote_name("pause_manager_countertotal")
            cursor.execute(_LOOKED.format(totals=table), [lasting * 0.75, LOOKS.name])
            if cursor.fetchone()[0]:
                return 0
        cursor.execute(_EXPIRING, {"seconds": lasting * 0.75})
        return int(cursor.fetchone()[0])


def check(app: Any) -> list[CheckMessage]:
    """A warning where chords and groups come to nothing while a member waits longer than results last."""
    if can_keep(app) and 0 < seconds_of(app) < SHORT_SECONDS:
        return [
            Warning(
                f"Results expire after {seconds_of(app):g} s: those of a chord that has a member parked are renewed "
                "with each poll, which may come too late.",
                hint=f"Set result_expires to {SHORT_SECONDS:g} s or more.",
                id="pause_manager.W025",
            )
        ]
    lasting = forgotten_after(app)
    if lasting is None:
        return []
    return [
        Warning(
            f"The result backend {type(app.backend).__name__} forgets results after {lasting}, and "
            "nothing can renew them there: the body of a chord that has a member parked for longer never runs.",
            hint="Set result_expires to more than the longest pause, or None, or keep results in Redis.",
            id="pause_manager.W024",
        )
    ]


_next_look = 0.0


def _is_due(seconds: float) -> bool:
    global _next_look
    now = time.monotonic()
    if now < _next_look:
        return False
    # A little less: a poll that comes a moment early must not skip a turn.
    _next_look = now + seconds * 0.9
    return True


@contextmanager
def _client(backend: Any) -> Iterator[Any]:
    """The backend's Redis, whose answer we wait for no longer than others can wait for us."""
    pool = backend.client.connection_pool
    if type(pool) is not redis.ConnectionPool:
        yield backend.client
        return
    waits = {"socket_timeout": WAIT_SECONDS, "socket_connect_timeout": WAIT_SECONDS}
    ours = redis.ConnectionPool(pool.connection_class, **{**pool.connection_kwargs, **waits})
    try:
        yield redis.Redis(connection_pool=ours)
    finally:
        ours.disconnect()


def _renew(backend: Any, client: Any, groups: Collection[str]) -> int:
    """What has lost a quarter of its time lasts as long again as when it was written; nothing ever lasts shorter."""
    chord = int(getattr(backend, "chord_expires", None) or backend.expires or 0)
    result = int(backend.expires or 0)
    keys = {backend.get_key_for_group(group, suffix): chord for group in groups for suffix in _SUFFIXES}
    for group, stored in zip(groups, client.mget([backend.get_key_for_group(one) for one in groups]), strict=True):
        if stored is not None:
            keys |= {backend.get_key_for_task(member): result for member in _members(backend, group, stored)}
    renewed = 0
    for batch in _batches(keys.items()):
        with client.pipeline(transaction=False) as pipe:
            for key, _ in batch:
                pipe.ttl(key)
            left = pipe.execute()
            # Below 0: there is none, or it does not expire.
            due = [(key, lasting) for (key, lasting), ttl in zip(batch, left, strict=True) if 0 <= ttl < lasting * 0.75]
            for key, lasting in due:
                pipe.expire(key, lasting)
            renewed += sum(map(bool, pipe.execute())) if due else 0
    return renewed


def _members(backend: Any, group: str, stored: Any) -> list[str]:
    """The ids of all tasks of a group that was saved whole, as Celery's ``GroupResult.as_tuple`` says it."""
    found: list[str] = []
    try:
        left = [backend.decode(stored)["result"]]
        while left:
            named, children = left.pop()
            if children is None:
                found.append(str(named[0] if isinstance(named, list | tuple) else named))
            else:
                left += children
    except Exception as error:  # One that is not as it should be is no reason to let the others expire.
        logger.warning("What belongs to group %s cannot be read: %s", group, error)
    return found


def _backend(app: Any) -> Any:
    try:
        return app.backend
    except Exception as error:  # Celery says what it lacks when somebody asks for a result.
        logger.debug("The result backend cannot be made: %s", error)
        return None


def _has_no_results(app: Any) -> bool:
    return isinstance(_backend(app), DisabledBackend | None)


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(items)
    while batch := list(islice(left, BATCH)):
        yield batch
