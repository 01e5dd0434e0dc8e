"""The tasks at work in this process: a row each, entered and left with one statement, kept fresh by one thread.

The connection is our own and stays open: Celery closes Django's after each task.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import Error as DatabaseError
from django.db import connection, connections
from django.dispatch import receiver

from pause_manager import conf, loads, metrics, settling
from pause_manager.delivery import Delivery
from pause_manager.models import Hold, PauseQueueEntry, RunningTask
from pause_manager.needs import Needs
from pause_manager.probes import processes
from pause_manager.signals import yield_wanted
from pause_manager.views import Load
from pause_manager.watcher import Stop

logger = logging.getLogger("pause_manager.running")

YIELD = "yield"
"""The code of the stop of a task that gives way to strangers."""

_REF = "task:"

_HOLDS = f"SELECT 1 FROM {Hold._meta.db_table} WHERE released_at IS NULL AND scope = ANY(%s)"
_ENTER = f"""
    INSERT INTO {RunningTask._meta.db_table}
           (task_id, task_name, queue, node, worker, owner, acks_late, priority, gpus)
    SELECT %s, %s, %s, %s, %s, %s, %s, %s, '[]'::jsonb
     WHERE NOT EXISTS ({_HOLDS})
 RETURNING id
"""
_SEEN = f"UPDATE {RunningTask._meta.db_table} SET seen_at = statement_timestamp() WHERE id = ANY(%s)"
_ASK = f"""
    WITH asks AS (UPDATE {RunningTask._meta.db_table} SET asks = true WHERE id = %s AND NOT asks)
    SELECT gives_way FROM {RunningTask._meta.db_table} WHERE id = %s
"""
_LEAVE = f"DELETE FROM {RunningTask._meta.db_table} WHERE id = ANY(%s)"
_LEAVE_AND_LOOK = f"""
    WITH gone AS ({_LEAVE})
    SELECT 1 FROM {Hold._meta.db_table} WHERE released_at IS NULL AND settled_at IS NULL AND scope = ANY(%s) LIMIT 1
"""
_MAY_START = f"""
    SELECT EXISTS ({_HOLDS}),
           EXISTS (SELECT 1 FROM {Hold._meta.db_table}
                    WHERE released_at IS NOT NULL AND went_on_at IS NULL AND scope = ANY(%s))
"""
_ABANDON = f"""
    WITH gone AS (DELETE FROM {RunningTask._meta.db_table} WHERE id = %s AND (acks_late OR %s) RETURNING entry_id)
    UPDATE {PauseQueueEntry._meta.db_table} SET answered_at = NULL WHERE id IN (SELECT entry_id FROM gone)
"""


# Read by every claim of a loop, too.
_LOADS = f"""
    SELECT task.id, task.node, task.task_id, task.needs::text, extract(epoch FROM task.started_at)::float8,
           task.priority, task.gpus::text, task.asks AND NOT coalesce(entry.is_forced, false)
      FROM {RunningTask._meta.db_table} AS task
      LEFT JOIN {PauseQueueEntry._meta.db_table} AS entry ON entry.id = task.entry_id
     WHERE task.needs IS NOT NULL AND (%(node)s::text IS NULL OR task.node = %(node)s)
"""


@dataclass(frozen=True)
class Running:
    """A task at work, as anybody may ask."""

    task_id: str
    task_name: str
    queue: str
    node: str
    worker: str
    started_at: datetime
    is_stale: bool
    """Its process has not been heard of for three beats, or has ended."""


class Register:
    """The rows of this process. Safe with prefork, threads, gevent and solo pools."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._connection: Any = None
        self._ids: set[int] = set()
        self._left: set[int] = set()
        self._is_needed = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self, delivery: Delivery) -> int | None:
        """Write that ``delivery`` runs here, unless a hold covers it; the row's id, or ``None`` if one does.

        Raises ``DatabaseError``: what cannot be read starts nothing.
        """
        values = [
            *(delivery.task_id, delivery.task_name, delivery.queue, processes.node_name(), delivery.worker),
            *(processes.identity(), delivery.acks_late, delivery.priority, scopes(delivery)),
        ]
        row = self._execute(_ENTER, values)
        return int(row[0]) if row is not None and self.may_start(int(row[0]), delivery) else None

    def may_start(self, pk: int, delivery: Delivery) -> bool:
        """Whether still nothing holds ``delivery`` now that its row is there for all to see; if not, the row goes.

        We write the row and then look for holds; who holds writes the hold and then looks for rows. One of the two
        sees the other, so nothing starts after a drain was seen to be complete.
        """
        covering = scopes(delivery)
        is_held, is_first = self._execute(_MAY_START, [covering, covering])
        if is_held:
            self._execute(_ABANDON, [pk, True])
            return False
        self.add(pk)
        if is_first:
            metrics.guarded(settling.went_on)(covering)
        return True

    def add(self, pk: int) -> None:
        """Keep a row fresh until :meth:`leave`."""
        self._ids.add(pk)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._beat, name="slackwater-running", daemon=True)
            self._thread.start()
        self._is_needed.set()

    def ask(self, pk: int) -> Stop | None:
        """Why the task must give way, if it must; whoever decides that knows from now on that this one asks."""
        row = self._execute(_ASK, [pk, pk])
        return Stop(YIELD, row[0]) if row is not None and row[0] else None

    def leave(self, pk: int, delivery: Delivery | None = None) -> None:
        """The task has ended, perhaps the last that a hold stops. With the database away its row goes later."""
        self._ids.discard(pk)
        covering = scopes(delivery) if delivery is not None else []
        try:
            if self._execute(_LEAVE_AND_LOOK, [[pk], covering]) is not None:
                metrics.guarded(settling.look)(covering)
        except DatabaseError as error:
            logger.warning("The database is away (%s): a task that has ended is shown as running for now.", error)
            self._left.add(pk)
            self._is_needed.set()

    def abandon(self, pk: int) -> None:
        """The task was broken off: its message will come again, if it acknowledges late, and may be answered again."""
        self._ids.discard(pk)
        try:
            self._execute(_ABANDON, [pk, False])
        except DatabaseError as error:
            logger.warning("The database is away (%s): a task that was broken off is found by the poll.", error)

    def close(self) -> None:
        """Let the connection go; the next statement opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _execute(self, statement: str, values: list[Any]) -> Any:
        if self._pid != os.getpid():
            self._renew()
        with self._lock:
            if self._connection is None:
                self._connection = connections.create_connection("default")
                self._connection.inc_thread_sharing()
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute(statement, values)
                    return cursor.fetchone() if cursor.description else None
            except DatabaseError:
                self._connection.close()
                self._connection = None
                raise

    def _beat(self) -> None:
        pause = threading.Event()
        while True:
            self._is_needed.wait()
            pause.wait(conf.settings().running_beat_seconds)
            ids, left = list(self._ids), list(self._left)
            try:
                if left:
                    self._execute(_LEAVE, [left])
                    self._left.difference_update(left)
                if ids:
                    self._execute(_SEEN, [ids])
                else:
                    self._is_needed.clear()
                    if self._ids or self._left:
                        self._is_needed.set()
            except DatabaseError as error:
                logger.warning("The database is away (%s): the running tasks are not confirmed.", error)
            except Exception:
                logger.exception("The running tasks were not confirmed; the next time they may be.")


def scopes(delivery: Delivery) -> list[str]:
    """The scopes whose holds cover ``delivery`` here."""
    return [*delivery.scopes, f"node:{processes.node_name()}"]


register = Register()
"""The one of this process."""


def running() -> list[Running]:
    """Every task at work, the oldest first. ``is_stale`` by the database's clock."""
    beat = timedelta(seconds=3 * conf.settings().running_beat_seconds)
    return [
        Running(
            row.task_id,
            row.task_name,
            row.queue,
            row.node,
            row.worker,
            row.started_at,
            is_stale=row.unseen > beat or processes.is_dead(row.owner),
        )
        for row in _with_age()
    ]


def _with_age() -> Iterable[Any]:
    return RunningTask.objects.with_age()


def lost() -> list[RunningTask]:
    """The rows whose process has ended (of this machine) or has not been heard of for long (of another)."""
    settings = conf.settings()
    elsewhere = timedelta(seconds=settings.running_lost_seconds)
    return [row for row in _with_age() if _is_lost(row, elsewhere)]


def _is_lost(row: Any, elsewhere: timedelta) -> bool:
    if processes.is_here(row.owner):
        # One that lives and says nothing is frozen, or left its row behind when the database went away.
        return processes.is_dead(row.owner) or row.unseen > 10 * elsewhere
    return bool(row.unseen > elsewhere)


@loads.register
def _loads(node: str | None) -> Iterable[tuple[str | None, Load]]:
    """What tasks with declared needs take of the nodes, and what is sent on and has not started."""
    with connection.cursor() as cursor:
        cursor.execute(_LOADS, {"node": node})
        rows = cursor.fetchall()
    for pk, name, task_id, needs, started_at, priority, gpus, can_yield in rows:
        declared = Needs(**orjson.loads(needs))
        yield (
            name,
            Load(
                f"{_REF}{task_id}/{pk}",
                declared,
                started_at,
                priority,
                tuple(orjson.loads(gpus)),
                can_yield=can_yield,
            ),
        )
    if node is None:
        capacity = PauseQueueEntry.KeptBy.CAPACITY
        for entry in PauseQueueEntry.objects.unanswered().filter(kept_by=capacity):
            sent_at = entry.sent_at.timestamp() if entry.sent_at else 0.0
            yield None, Load(entry.ref, Needs(**entry.needs), sent_at, entry.priority, is_sent=True)


@receiver(yield_wanted)
def _give_way(sender: object, refs: Sequence[str], reason: str, **_: object) -> None:
    rows = [int(ref.rpartition("/")[2]) for ref in refs if ref.startswith(_REF)]
    RunningTask.objects.filter(pk__in=rows, gives_way="").update(gives_way=reason)


def needs_as_json(needs: Needs | None) -> Any:
    """As the row keeps it."""
    return None if needs is None else orjson.loads(orjson.dumps(needs))
