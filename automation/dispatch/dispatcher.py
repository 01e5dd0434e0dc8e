"""The only enqueuer, and the reconciler that repairs whatever is missing.

A message says "look at stage run 12" and carries the ticket it was sent with. Lose it and a new one is sent;
deliver it twice and the second finds no ticket and ends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from celery import current_app
from django.db import connection, transaction

from automation import conf, gate
from automation.dispatch import turns
from automation.dispatch.admission import LoopRequest, admit, park, read_nodes
from automation.dispatch.resource_shares import ResourceShares, Wish
from automation.gate import delays, resource_limits, resource_line, standstills
from automation.gate.loop_limit import LOOP_LIMIT
from automation.leases.lease_columns import KEEPS
from automation.models import Lifecycle, StageRun, Ticket
from automation.models.tables import RUN, SLICE, STAGE, TICKET
from automation.pipeline import AGENT, definition
from automation.pipeline.definition import IN_FLIGHT, INTERFACE, QUEUE, USED, USES_NOTHING
from pause_manager.messaging.broker import BROKER_ERRORS, queue_depth
from pause_manager.observability import gate_health

logger = logging.getLogger("automation.dispatch.dispatcher")

TASK = "automation.worker.stage_loop"


def on_commit(stage_run_ids: Sequence[int]) -> None:
    """Dispatch the stages once the surrounding transaction has committed."""
    if stage_run_ids:
        transaction.on_commit(lambda: dispatch(stage_run_ids), robust=True)


def of_runs(run_ids: Sequence[UUID | str], at_most: int | None = None) -> int:
    """Dispatch the running stages of the runs now, with ``at_most`` loops each."""
    stages = StageRun.objects.filter(run__in=[UUID(str(pk)) for pk in run_ids], lifecycle=Lifecycle.RUNNING)
    return dispatch(list(stages.values_list("pk", flat=True)), at_most)


def dispatch(stage_run_ids: Sequence[int] | None = None, at_most: int | None = None) -> int:
    """Send a message for each loop that is wanted and has room, for the named stages or for all; returns how many.

    ``at_most`` caps the messages for each stage: a run that returns from the pause queue starts with one loop.

    Wanted = min(concurrency, slices to do) - live leases - tickets out. A stage that the gate stops wants none. A run
    of which nothing is in progress and nothing has room is parked in the pause queue. Those who are first in line for a
    limited resource of the named stages come before these.
    """
    # 1. Read the nodes before anything is locked: their samples are in Redis, which may hang.
    seen = read_nodes()
    if stage_run_ids:
        stage_run_ids = _with_heads(stage_run_ids)
    with transaction.atomic(), connection.cursor() as cursor:
        which = "" if stage_run_ids is None else "AND stage.id = ANY(%s)"
        # 2. Lock the stages. Another dispatch of a stage is waited for: its count may be older than the lease that was
        # just given back. The reconciler does not wait; it runs again.
        wait = "SKIP LOCKED" if stage_run_ids is None else ""
        cursor.execute(
            f"SELECT stage.id FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id "
            f"WHERE run.finished_at IS NULL AND stage.lifecycle = 'running' {which} "
            f"ORDER BY stage.id FOR NO KEY UPDATE OF stage {wait}",
            [] if stage_run_ids is None else [list(stage_run_ids)],
        )
        locked = [row[0] for row in cursor.fetchall()]
        if not locked:
            return 0
        # 3. Count the loops that are wanted, and admit those that have room.
        admission = admit(_wanted(cursor, locked), seen, at_most)
        # 4. Write a ticket for each message, and note the runs that now wait for a worker.
        cursor.execute(
            _TICKETS,
            {
                "ids": [request.stage_run_id for request, _ in admission.granted],
                "queues": [request.queue for request, _ in admission.granted],
                "messages": [messages for _, messages in admission.granted],
            },
        )
        tickets = cursor.fetchall()
        cursor.execute(_OUT, {"ids": locked, **gate.values()})
        standstills.begin_waiting([row[0] for row in cursor.fetchall()])
    # 5. Send, and park the rest, once the stages are free: a hold locks its run, and the holder of a run may be waiting
    # for its stage.
    _send(tickets)
    park(admission)
    return len(tickets)


def _with_heads(stage_run_ids: Sequence[int]) -> list[int]:
    """The stages, and those who are before them in the lines of their resources: as many as there are places."""
    shares = ResourceShares(stage_run_ids)
    return list({*stage_run_ids, *resource_line.heads(shares.loops())}) if shares else list(stage_run_ids)


def _wanted(cursor: Any, stage_run_ids: Sequence[int]) -> list[LoopRequest]:
    values = {"ids": list(stage_run_ids), "max_loops": conf.settings().max_loops, **gate.values()}
    with gate_health.counted("gate"):
        cursor.execute(_WANTED, values)
        rows = cursor.fetchall()
    requests = [replace(LoopRequest(*row[:11]), needs=definition.needs_of(orjson.loads(row[9]))) for row in rows]
    wishes = [
        Wish(request.messages, row[11], row[12], request.priority, row[13], row[14], request.stage_run_id)
        for request, row in zip(requests, rows, strict=True)
    ]
    using = [wish.stage_run_id for wish in wishes if wish.uses]
    if not using:
        return requests
    granted = ResourceShares(using).grant(wishes)
    return [replace(request, messages=most) for request, most in zip(requests, granted, strict=True) if most]


def replace_lost_tickets() -> int:
    """Delete the tickets whose messages are gone, so that ``dispatch`` sends them again; returns how many.

    A queue with fewer messages than tickets has lost some. Which ones is unknown, so all that are old enough are
    replaced; a message that was not lost after all finds no ticket.
    """
    settings = conf.settings()
    gone = 0
    for queue in Ticket.objects.order_by().values_list("queue", flat=True).distinct():
        depth = queue_depth(queue)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(turns.TAKE_QUEUE, [queue])
            cursor.execute(
                _LOST,
                {
                    "queue": queue,
                    "depth": depth,
                    "grace": settings.ticket_grace_seconds,
                    "age": settings.ticket_seconds,
                },
            )
            gone += cursor.rowcount
    if gone:
        # Redis keeps nothing over a restart: this is what every restart looks like.
        logger.info("%d messages did not survive; they are sent again. Nothing is lost.", gone)
    return gone


def _send(tickets: Sequence[tuple[int, int, str]]) -> None:
    if not tickets:
        return
    try:
        with current_app.producer_pool.acquire(block=True, timeout=2) as producer:
            for ticket_id, stage_run_id, queue in tickets:
                current_app.send_task(TASK, args=(stage_run_id, ticket_id), queue=queue, producer=producer, retry=False)
    except BROKER_ERRORS as error:
        logger.warning("The broker is away (%s): the reconciler will send what is missing.", error)


# One index look-up per count: no more is read than loops could take, however many slices are open.
_SLICES = f"""
    SELECT (SELECT count(*) FROM {SLICE} AS slice
             WHERE slice.stage_run_id = stage.id AND slice.lease_token IS NOT NULL AND slice.finished_at IS NULL)
               AS leased,
           (SELECT count(*) FROM {SLICE} AS slice WHERE slice.stage_run_id = stage.id AND {KEEPS}) AS kept,
           (SELECT count(*) FROM (
                SELECT FROM {SLICE} AS slice
                 WHERE slice.stage_run_id = stage.id AND slice.finished_at IS NULL AND slice.lease_token IS NULL
                   AND (slice.available_at IS NULL OR slice.available_at <= statement_timestamp())
                   AND (slice.is_begun OR {delays.HANDS_OUT})
                   AND slice.phase = (SELECT phase FROM {SLICE} WHERE stage_run_id = stage.id AND finished_at IS NULL
                                       ORDER BY phase LIMIT 1)
                 ORDER BY slice.ordinal LIMIT wants.loops) AS due) AS due
"""

# Agents come by themselves: their stages want no messages.
_LOOPS = f"CASE WHEN {INTERFACE} = '{AGENT}' THEN 0 ELSE coalesce({LOOP_LIMIT}, %(max_loops)s) END"

_WANTED = f"""
    WITH wanted AS (
        SELECT stage.id, stage.slug, run.id AS run_id, run.pipeline, run.priority, run.ignores_capacity,
               {QUEUE} AS queue, slices.leased + tickets.out AS in_progress,
               least(wants.loops, slices.leased + slices.due, slices.leased + {resource_limits.PLACES})
                   - slices.leased - tickets.out AS messages,
               (stage.definition->'needs')::text AS needs,
               greatest(0, slices.kept - tickets.out) AS kept,
               CASE WHEN {USES_NOTHING} THEN '{{}}'::text[] ELSE ARRAY {USED} END AS uses, {IN_FLIGHT} AS in_flight,
               slices.leased, stage.turn_at
          FROM {STAGE} AS stage
          JOIN {RUN} AS run ON run.id = stage.run_id
         CROSS JOIN LATERAL (SELECT {_LOOPS} AS loops) AS wants
         CROSS JOIN LATERAL ({_SLICES}) AS slices
         CROSS JOIN LATERAL (SELECT count(*) AS out FROM {TICKET} WHERE stage_run_id = stage.id) AS tickets
         WHERE stage.id = ANY(%(ids)s) AND {gate.OPEN}
           AND (stage.loop_retry_at IS NULL OR stage.loop_retry_at <= statement_timestamp())
    )
    SELECT id, slug, run_id, pipeline, priority, ignores_capacity, queue, in_progress, messages, needs, kept,
           uses, in_flight, leased, turn_at
      FROM wanted WHERE messages > 0 ORDER BY priority, id
"""

_TICKETS = f"""
    INSERT INTO {TICKET} (stage_run_id, queue)
    SELECT granted.id, granted.queue
      FROM unnest(%(ids)s::bigint[], %(queues)s::text[], %(messages)s::int[]) AS granted(id, queue, messages),
           generate_series(1, granted.messages)
 RETURNING id, stage_run_id, queue
"""

_OUT = f"""
    SELECT stage.id FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE stage.id = ANY(%(ids)s) AND EXISTS (SELECT FROM {TICKET} WHERE stage_run_id = stage.id) AND {gate.OPEN}
"""
"""The stages that nothing stops and whose messages no worker has taken."""

_LOST = f"""
    DELETE FROM {TICKET}
     WHERE queue = %(queue)s
       AND (sent_at < statement_timestamp() - make_interval(secs => %(age)s)
            OR (sent_at < statement_timestamp() - make_interval(secs => %(grace)s)
                AND %(depth)s::int < (SELECT count(*) FROM {TICKET} WHERE queue = %(queue)s
                                         AND sent_at < statement_timestamp() - make_interval(secs => %(grace)s))))
"""
