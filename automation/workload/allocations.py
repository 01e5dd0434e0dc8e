"""What runs take of the nodes, which queues bring their work, and the kinds of work that there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson
from django.db import connection

from automation import gate
from automation.leases.lease_columns import KEEPS
from automation.models import Ticket
from automation.models.tables import RUN, SLICE, STAGE, TICKET
from automation.pipeline import AGENT, all_pipelines, definition
from automation.pipeline.definition import INTERFACE, QUEUE
from pause_manager import scopes
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation
from pause_manager.probes import processes
from pause_manager.workloads import WorkKind


def by_node(node: str | None) -> Iterable[tuple[str | None, Allocation]]:
    """Live leases by node and what lost slices keep there; if no node is named, also the messages on their way."""
    with connection.cursor() as cursor:
        cursor.execute(_LEASED, {"node": node})
        leased = cursor.fetchall()
        sent = []
        if node is None:
            cursor.execute(_SENT)
            sent = cursor.fetchall()
    for slice_id, name, gpus, started_at, priority, pipeline, needs, queue, can_yield, *rest in leased:
        run_id, works_since, repeats, owner = rest
        yield (
            name,
            Allocation(
                f"slice:{slice_id}",
                _needs(needs),
                started_at,
                priority,
                tuple(gpus),
                can_yield=can_yield,
                # An agent comes by itself: nobody can have another one continue its work elsewhere.
                can_move=bool(queue),
                queue=queue,
                policy=pipeline,
                piece=scopes.run(run_id),
                works_since=works_since,
                repeats_seconds=repeats,
                container=processes.container_of(owner),
            ),
        )
    for ticket_id, queue, sent_at, priority, needs in sent:
        yield None, Allocation(f"ticket:{ticket_id}", _needs(needs), sent_at, priority, is_sent=True, queue=queue)


def _needs(text: str) -> Needs:
    return definition.needs_of(orjson.loads(text))


def waiting_queues() -> Iterable[str]:
    """The queues of the messages on their way."""
    return Ticket.objects.order_by().values_list("queue", flat=True).distinct()


def stopped_messages() -> dict[str, int]:
    """By queue, the messages on their way for stages that the gate stops."""
    with connection.cursor() as cursor:
        cursor.execute(STOPPED, gate.values())
        return dict(cursor.fetchall())


def override_queues() -> Iterable[str]:
    """The queues of running stages whose runs ignore the capacity."""
    with connection.cursor() as cursor:
        cursor.execute(_FORCED)
        return [row[0] for row in cursor.fetchall()]


def kinds() -> Iterable[WorkKind]:
    """A kind for each stage of each pipeline."""
    for pipeline in all_pipelines():
        for stage in pipeline.stages:
            # Agents come by themselves: no worker need serve the queue.
            queue = "" if stage.executor == AGENT else stage.queue
            yield WorkKind(pipeline.slug, stage.slug, stage.needs, queue)


def slices_of(refs: Sequence[str]) -> list[int]:
    """The ids of the slices among ``refs``."""
    return [int(ref.removeprefix("slice:")) for ref in refs if ref.startswith("slice:")]


# A loop leaves between two items, so that it costs an item at most; a hook has none and begins again.
_REPEATS = """
    CASE WHEN slice.phase = 1 AND slice.processed + slice.failed > 0
         THEN slice.busy_seconds / (slice.processed + slice.failed)
         ELSE extract(epoch FROM statement_timestamp() - slice.leased_at)::float
    END
"""

# A run of the release before may have been leased by it before its stages are defined here, see ``stage_rows.define``.
_NEEDS = "coalesce(stage.definition->>'needs', '{}')"
_SERVED_BY = f"CASE WHEN {INTERFACE} = '{AGENT}' THEN '' ELSE coalesce({QUEUE}, '') END"

# Both kinds are joined once: every claim plans this.
_LEASED = f"""
    SELECT slice.id, slice.lease_node, slice.lease_gpus, extract(epoch FROM slice.since)::float,
           run.priority, run.pipeline, {_NEEDS}, {_SERVED_BY}, slice.is_leased AND NOT run.ignores_capacity,
           run.id, CASE WHEN slice.is_leased THEN extract(epoch FROM stage.started_at)::float END,
           slice.repeats, slice.owner
      FROM (SELECT id, stage_run_id, lease_node, lease_gpus, true AS is_leased, leased_at AS since,
                   {_REPEATS} AS repeats, lease_owner AS owner
              FROM {SLICE} AS slice
             WHERE slice.lease_token IS NOT NULL AND slice.finished_at IS NULL
               AND (%(node)s::text IS NULL OR slice.lease_node = %(node)s)
             UNION ALL
            SELECT id, stage_run_id, lease_node, lease_gpus, false, lost_at, 0, ''
              FROM {SLICE} AS slice
             WHERE slice.lost_at IS NOT NULL AND {KEEPS}
               AND (%(node)s::text IS NULL OR slice.lease_node = %(node)s)) AS slice
      JOIN {STAGE} AS stage ON stage.id = slice.stage_run_id
      JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE slice.is_leased
        OR (stage.lifecycle = 'running' AND run.lifecycle = 'running' AND run.paused_at IS NULL
            AND run.cancel_requested_at IS NULL)
"""

_FORCED = f"""
    SELECT DISTINCT {QUEUE}
      FROM {RUN} AS run JOIN {STAGE} AS stage ON stage.run_id = run.id
     WHERE run.finished_at IS NULL AND run.lifecycle = 'running' AND run.ignores_capacity
       AND stage.lifecycle = 'running'
       AND {QUEUE} IS NOT NULL
"""

_SENT = f"""
    SELECT ticket.id, ticket.queue, extract(epoch FROM ticket.sent_at)::float, run.priority, {_NEEDS}
      FROM {TICKET} AS ticket
      JOIN {STAGE} AS stage ON stage.id = ticket.stage_run_id
      JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE stage.lifecycle = 'running' AND run.finished_at IS NULL AND run.lifecycle = 'running'
       AND run.paused_at IS NULL AND run.cancel_requested_at IS NULL
"""
"""Messages that will start something: what was sent for a run that has ended or is paused takes nobody's room."""

# Each stage is looked up by its key: OFFSET keeps the planner from reading all of them for a join.
STOPPED = f"""
    SELECT sent.queue, sum(sent.messages)::bigint
      FROM (SELECT queue, stage_run_id, count(*) AS messages FROM {TICKET} GROUP BY queue, stage_run_id) AS sent
     CROSS JOIN LATERAL (
            SELECT stage.lifecycle = 'running' AND coalesce(({gate.OPEN}), false) AS is_open
              FROM {STAGE} AS stage JOIN {RUN} AS run ON run.id = stage.run_id
             WHERE stage.id = sent.stage_run_id OFFSET 0) AS found
     WHERE NOT found.is_open
     GROUP BY sent.queue
"""
