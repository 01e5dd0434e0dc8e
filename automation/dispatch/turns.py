"""Whose turn it is: workers are shared between the runs whose messages wait in one queue.

The more urgent run comes first, then the one with the fewest loops, then the one that had its last turn longest
ago. A message brings a worker, whatever stage it was sent for: it takes the turn of the first, and leaves its own to
that one's message. So each message still has one ticket, and who asked first for many loops keeps nobody waiting.
"""

from __future__ import annotations

import time
from uuid import UUID

from django.db import connection, transaction

from automation import conf, gate
from automation.models import StageRun, Ticket
from automation.models.tables import RUN, SLICE, STAGE, TICKET

BEGINNING_SHARE = 0.1
"""Of a turn, at most, is spent on the beginning of the work: on a model that is loaded, for instance."""
CALLED_SECONDS = 10
"""A place that was given up for a ticket, and that nobody has taken by then, is given up for it again."""
WAITS_SECONDS = 0.5
"""A message that is out for so long finds no worker that is free."""

TAKE_QUEUE = "SELECT pg_advisory_xact_lock(hashtext('slackwater turns'), hashtext(%s))"
"""Tickets of a queue are taken and deleted by one process at a time: each sees who had the turn before."""


def answer(ticket_id: int) -> int | None:
    """Take the ticket of a message: the stage run whose turn it is. ``None``: it was answered or replaced before.

    The message of a stage run that must wait for its turn is there, and brings it another worker.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SELECT queue FROM {TICKET} WHERE id = %s", [ticket_id])
        row = cursor.fetchone()
        if row is None:
            return None
        cursor.execute(TAKE_QUEUE, [row[0]])
        own = Ticket.objects.select_for_update().filter(pk=ticket_id).first()
        if own is None:
            return None
        cursor.execute(_FIRST, {"queue": own.queue, **gate.values()})
        first = cursor.fetchone()
        stage_run_id = own.stage_run_id
        others = Ticket.objects.filter(pk=first[0], stage_run=first[1]) if first is not None else Ticket.objects.none()
        if others.exclude(pk=own.pk).update(stage_run=own.stage_run_id):
            stage_run_id = first[1]
        own.delete()
        cursor.execute(_NOTE, [stage_run_id])
    return stage_run_id


class Turn:
    """Of one loop: when it must ask whether to make room, and whether it must.

    It lasts ``turn_seconds`` from the beginning of the work, and continues while nobody waits, for ``loop_seconds`` at
    most. Both are longer where it takes long to begin: a model that is loaded for a minute is not let go after one.
    """

    def __init__(self, stage_run: StageRun, queue: str) -> None:
        self._stage_run = stage_run
        self._queue = queue
        self._began = time.monotonic()
        self._ends_at = self.look_at = self._began + conf.settings().loop_seconds
        self._length: float | None = None
        self.is_made_room = False
        """Whether it ends so that another run has its turn."""

    def begin(self) -> None:
        """The first item, or hook, is about to begin."""
        if self._length is None:
            now = time.monotonic()
            worth = (now - self._began) / BEGINNING_SHARE
            self._length = max(conf.settings().turn_seconds, worth)
            self._ends_at = now + max(conf.settings().loop_seconds, worth)
            self.look_at = min(now + self._length, self._ends_at)

    def is_over(self) -> bool:
        """To be asked between two items once ``look_at`` has come; one statement."""
        now = time.monotonic()
        if now >= self._ends_at:
            return True
        assert self._length is not None
        self.look_at = min(now + self._length, self._ends_at)
        self.is_made_room = _calls_another(self._stage_run.run_id, self._queue)
        return self.is_made_room


def _calls_another(run_id: UUID, queue: str) -> bool:
    """Whether another run waits for the place of one of ``run_id``; if so it is kept for that one from others."""
    with connection.cursor() as cursor:
        cursor.execute(
            _CALL,
            {
                "run": run_id,
                "queue": queue,
                **gate.values(),
                "waits": WAITS_SECONDS,
                "called": CALLED_SECONDS,
            },
        )
        return bool(cursor.rowcount)


_LEASES = f"""
    SELECT count(*) FROM {STAGE} AS at_work JOIN {SLICE} AS slice ON slice.stage_run_id = at_work.id
     WHERE at_work.run_id = {{run}} AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL
"""

_WAITING = f"""
    SELECT waiting.id, waiting.stage_run_id, run.id AS run_id, run.priority, theirs.leases, stage.turn_at
      FROM (SELECT stage_run_id, min(id) AS id FROM {TICKET} AS ticket WHERE queue = %(queue)s AND {{which}}
             GROUP BY stage_run_id) AS waiting
      JOIN {STAGE} AS stage ON stage.id = waiting.stage_run_id
      JOIN {RUN} AS run ON run.id = stage.run_id
     CROSS JOIN LATERAL ({_LEASES.format(run="run.id")}) AS theirs(leases)
     WHERE stage.lifecycle = 'running' AND {gate.OPEN}
"""
# The last by the stage, not by its message: the order of who waits for a resource, see ``gate.resource_line``.
_IN_TURN = "ORDER BY waiting.priority, waiting.leases, waiting.turn_at NULLS FIRST, waiting.stage_run_id LIMIT 1"

# Who has it locked is about to lease a slice of it, and that counts as well.
_NOTE = f"""
    UPDATE {STAGE} SET turn_at = clock_timestamp()
     WHERE id = (SELECT id FROM {STAGE} WHERE id = %s AND lifecycle = 'running' FOR NO KEY UPDATE SKIP LOCKED)
"""

_FIRST = f"SELECT id, stage_run_id FROM ({_WAITING.format(which='true')}) AS waiting {_IN_TURN}"

# A run that has nothing in progress takes turns with those that have; among the others the loops are evened out.
_CALL = f"""
    UPDATE {TICKET} SET called_at = statement_timestamp()
     WHERE id = (
        SELECT waiting.id
          FROM ({
    _WAITING.format(
        which="ticket.sent_at < statement_timestamp() - make_interval(secs => %(waits)s)"
        " AND coalesce(ticket.called_at < statement_timestamp() - make_interval(secs => %(called)s), true)"
    )
}) AS waiting,
               (SELECT run.priority, ({_LEASES.format(run="run.id")}) AS leases FROM {RUN} AS run
                 WHERE run.id = %(run)s) AS own
         WHERE waiting.run_id <> %(run)s
           AND (waiting.priority < own.priority
                OR (waiting.priority = own.priority AND (waiting.leases = 0 OR waiting.leases < own.leases - 1)))
         {_IN_TURN})
       AND coalesce(called_at < statement_timestamp() - make_interval(secs => %(called)s), true)
"""
