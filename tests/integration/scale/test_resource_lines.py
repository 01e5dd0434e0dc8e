"""Thousands of runs wait for one resource, beside many more that do not: who tells the line reads those in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from automation import dispatch, leases
from automation.gate import resource_line
from automation.models import AutomationRun, Ticket
from automation.reports import explanation
from pause_manager import resources
from pause_manager.resources import line as task_line
from tests.support import provider_pipelines
from tests.support.factories import OPERATOR, claim, make_run, stage_of
from tests.support.lane_runs import again
from tests.support.query_plans import Explainer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(300)]
assert provider_pipelines

IN_LINE, ENDED = 2_000, 30_000
TABLES = ("automation_automationrun", "automation_stagerun", "automation_workslice", "pause_manager_pausequeueentry")

_COPY_RUNS = """
    INSERT INTO automation_automationrun
           (id, site_id, pipeline, lane, params, lifecycle, created_by, total_items, created_at, start_requested_at,
            started_at, finished_at, lane_seat_at, paused_seconds, priority, ignores_capacity, cancel_requested_by,
            failure)
    SELECT gen_random_uuid(), site_id, pipeline, lane, params,
           CASE WHEN n > %(line)s THEN 'completed' ELSE 'running' END, 'copy', total_items,
           now() + n * interval '1 millisecond', now(), now(),
           CASE WHEN n > %(line)s THEN now() END, CASE WHEN n <= %(line)s THEN now() END, 0, 3, false, '', ''
      FROM automation_automationrun AS run, generate_series(1, %(line)s + %(ended)s) AS n WHERE run.id = %(run)s
"""
_COPY_STAGES = """
    INSERT INTO automation_stagerun
           (run_id, slug, position, lifecycle, total_items, started_at, finished_at, paused_seconds_at_start,
            paused_seconds_at_end, definition)
    SELECT copy.id, slug, position, CASE WHEN copy.lifecycle = 'completed' THEN 'completed' ELSE stage.lifecycle END,
           stage.total_items, stage.started_at,
           CASE WHEN copy.lifecycle = 'completed' THEN now() ELSE stage.finished_at END, 0, 0, definition
      FROM automation_stagerun AS stage
      JOIN automation_automationrun AS copy ON copy.created_by = 'copy'
     WHERE stage.run_id = %(run)s ORDER BY copy.created_at, position
"""
_COPY_SLICES = """
    INSERT INTO automation_workslice
           (stage_run_id, phase, ordinal, source_id, first_key, last_key, size, cursor, processed, failed, busy_seconds,
            crashes, lease_owner, lease_node, lease_gpus, lease_yield)
    SELECT work.id, 1, 1, input.id, '000', '002', 3, '', 0, 0, 0, 0, '', '', '{}', ''
      FROM automation_stagerun AS work
      JOIN automation_automationrun AS copy ON copy.id = work.run_id AND copy.created_by = 'copy'
      JOIN automation_stagerun AS input ON input.run_id = work.run_id AND input.position = -1
     WHERE work.position = 0 AND work.lifecycle = 'running'
"""


@pytest.fixture
def line() -> Iterator[AutomationRun]:
    """A run that has the only place of a resource, a copy of which waits so often."""
    run = make_run("ask", items=6)
    resources.set_limits("provider", {"max_at_once": 1}, actor=OPERATOR)
    values: dict[str, Any] = {"run": run.pk, "line": IN_LINE, "ended": ENDED}
    with connection.cursor() as cursor:
        for statement in (_COPY_RUNS, _COPY_STAGES, _COPY_SLICES):
            cursor.execute(statement, values)
        cursor.execute("VACUUM ANALYZE automation_automationrun, automation_stagerun, automation_workslice")
        cursor.execute("SET random_page_cost = 1.1")
        yield run
        cursor.execute("RESET random_page_cost")


def test_the_line_reads_those_in_it_and_the_first_gets_the_place(line):
    work = claim(line)
    assert work is not None
    first, last = (
        AutomationRun.objects.filter(created_by="copy", lifecycle="running").order_by(order)[0]
        for order in ("created_at", "-created_at")
    )
    explained = Explainer(TABLES)

    with explained.of("place"):
        place = explanation.of_run(again(last))
    with explained.of("first"):
        told = resource_line.first("provider", 3)
    with explained.of("tasks"):
        task_line.first("provider", 3)
    leases.release(work)
    Ticket.objects.all().delete()
    with explained.of("dispatch"):
        sent = dispatch.dispatch([stage_of(line).pk])

    assert place.position == IN_LINE
    assert (told[0].run_id, [one.position for one in told]) == (first.pk, [1, 2, 3])
    assert sent == 1
    too_much = {str(step) for step in explained.steps if step.rows > 1.2 * IN_LINE}
    assert not too_much, "\n".join(sorted(too_much))
