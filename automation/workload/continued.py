"""The word that a run resumes which a hold on more than itself had stopped; its own holds have events of their own."""

from __future__ import annotations

from django.db import connection

from automation.models.tables import RUN, STAGE, TICKET
from pause_manager.actor import Actor
from pause_manager.models import ControlEvent
from pause_manager.observability import audit

ACTION = "continued"


def record(actor: Actor, reason: str) -> int:
    """Append an event for each run that was stopped by a hold and that has been dispatched again; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_CONTINUED)
        scopes = [row[0] for row in cursor.fetchall()]
    if scopes:
        audit.record_each(ACTION, [(scope, {}) for scope in scopes], actor=actor, reason=reason)
    return len(scopes)


_CONTINUED = f"""
    SELECT 'run:' || run.id
      FROM {RUN} AS run
     CROSS JOIN LATERAL (
            SELECT action, details FROM {ControlEvent._meta.db_table} AS event
             WHERE event.scope = 'run:' || run.id AND action IN ('stopped', '{ACTION}')
             ORDER BY event.id DESC LIMIT 1) AS last
     WHERE run.finished_at IS NULL AND run.lifecycle = 'running'
       AND last.action = 'stopped' AND last.details->>'code' = 'held'
       AND EXISTS (SELECT 1 FROM {STAGE} AS stage JOIN {TICKET} AS ticket
                                                    ON ticket.stage_run_id = stage.id
                    WHERE stage.run_id = run.id)
     ORDER BY run.id
"""
