"""With 300,000 waiting messages the statements of the sender go by indexes."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pause_manager import holds
from pause_manager.actor import SYSTEM
from pause_manager.messaging import envelope
from pause_manager.models import PauseQueueEntry
from pause_manager.nodes import known_tasks
from pause_manager.pausable import redispatch
from pause_manager.pause_queue import stuck

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300), pytest.mark.slow]

COUNT = 300_000
MESSAGE = {
    "headers": {"task": "tests.foreign.tasks.t1", "id": "one"},
    "properties": {"correlation_id": "one", "priority": 3},
    "queue": "q0",
    "content_type": "application/json",
    "content_encoding": "utf-8",
}
FILL = f"""
    INSERT INTO pause_manager_pausequeueentry
           (ref, task_name, args, kwargs, queue, priority, needs, reason, paused_at, attempts, outcome, waits_for,
            finished_at, sent_at, confirmed_at, message_key, body, envelope, message, problem)
    SELECT 'task:' || n, 'tests.foreign.tasks.t' || n %% 7, '[]', '{{}}', 'q' || n %% 5, 3, '{{}}', 'held',
           now() - make_interval(secs => {COUNT * 2} - n), 0,
           CASE WHEN n <= {COUNT} THEN '' ELSE 'sent' END, CASE WHEN n %% 3 = 0 THEN 'capacity' ELSE 'hold' END,
           CASE WHEN n <= {COUNT} THEN NULL ELSE now() END,
           CASE WHEN n <= {COUNT} THEN NULL ELSE now() - interval '1 day' END,
           CASE WHEN n <= {COUNT} THEN NULL ELSE now() END,
           'key-' || n, convert_to(repeat('x', 300), 'UTF8'), %s, '{{}}',
           CASE WHEN n %% 10000 = 0 AND n <= {COUNT} THEN 'unknown_task' ELSE '' END
      FROM generate_series(1, {2 * COUNT}) AS n
"""


@pytest.fixture
def many() -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL, [envelope.dump(MESSAGE)])
        cursor.execute("ANALYZE pause_manager_pausequeueentry")
        cursor.execute("VACUUM pause_manager_pausequeueentry")


def scans(plan: dict[str, Any]) -> list[str]:
    """The tables that a plan reads from the first row to the last."""
    own = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return own + [name for inner in plan.get("Plans", ()) for name in scans(inner)]


def read_through(sql: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        (plan,) = cursor.fetchone()
    return scans((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])


def test_no_statement_of_the_sender_reads_all_of_the_queue(many):
    # One queue is free, and the broker takes what waits there.
    for number in range(1, 5):
        holds.place([f"queue:q{number}"], actor=SYSTEM, reason="busy")
    with CaptureQueriesContext(connection) as asked:
        began = time.monotonic()
        assert redispatch.dispatch_released(actor=SYSTEM, reason="free", at_most=300) == 300
        holds.place(["fleet"], actor=SYSTEM, reason="busy")
        redispatch.reconcile()
        stuck.counts()
        took = time.monotonic() - began
    assert took < 30
    looked = 0
    for query in asked:
        sql = query["sql"]
        if "pause_manager_pausequeueentry" in sql and re.match(r"\s*(SELECT|UPDATE|WITH)", sql):
            looked += 1
            assert "pause_manager_pausequeueentry" not in read_through(sql), sql[:2_000]
    assert looked > 8
    assert PauseQueueEntry.objects.filter(outcome="sent", confirmed_at=None).count() == 300


def test_who_asks_what_nobody_knows_gets_an_answer_in_time(many):
    began = time.monotonic()
    assert sum(one.count for one in known_tasks.stuck_messages().unknown) == COUNT
    assert time.monotonic() - began < 5
