"""An admission and a poll look at what comes first, not at all that waits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection

from pause_manager import holds, manager
from pause_manager.actor import SYSTEM
from pause_manager.capacity.needs import Needs
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue import heads
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.sampled_fleet import HERE, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]

_ENTRY = PauseQueueEntry._meta.db_table


def park_many(count: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {_ENTRY} (ref, task_name, args, kwargs, queue, work_queue, priority, needs, reason,
                                      paused_at, attempts, outcome, waits_for)
                SELECT 'import:' || n, 'others.work', '[]', '{{}}', 'q' || n %% 3, 'q' || n %% 3, 1 + n %% 5,
                       jsonb_build_object('cpu', 1 + n %% 2, 'memory_mib', 0, 'gpu_memory_mib', 0, 'gpus', 0), 'full',
                       statement_timestamp() + make_interval(secs => n / 1000.0), 0, '', 'capacity'
                  FROM generate_series(1, %s) AS n""",
            [count],
        )
        cursor.execute(f"ANALYZE {_ENTRY}")


def rows_read(statement: str, values: dict[str, Any]) -> float:
    """Rows that the plan's scans of the pause queue gave out."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        (found,) = cursor.fetchone()
    (plan,) = json.loads(found) if isinstance(found, str) else found

    def of(part: dict[str, Any]) -> float:
        read = sum((of(one) for one in part.get("Plans", [])), 0.0)
        if part.get("Relation Name") == _ENTRY:
            read += (part["Actual Rows"] + part.get("Rows Removed by Filter", 0)) * part["Actual Loops"]
        return read

    return of(plan["Plan"])


@pytest.mark.slow
@pytest.mark.parametrize("is_held", [False, True])
def test_an_admission_reads_no_more_when_more_waits(is_held):
    values = {"queues": None, "kinds": heads.MOST_KINDS, "heads": heads.MOST_HEADS, "ageing": 1800.0}
    if is_held:
        holds.place(["queue:q1"], actor=SYSTEM)
    park_many(300)
    few = rows_read(heads._FRONT, values)
    park_many(0)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {_ENTRY} CASCADE")
    park_many(30_000)

    many = rows_read(heads._FRONT, values)

    assert many <= few + 10
    assert many < 400
    assert len(heads.kinds(1800.0)) == (4 if is_held else 6), "queues x needs"


def test_the_first_entries_that_may_not_go_hide_no_other_kind_and_none_behind_them():
    node()
    parked = [WithheldDispatch(f"run:{n:08d}-0000-0000-0000-000000000000", "go", "control", Needs()) for n in range(3)]
    manager.pause_work(parked, reason="full")
    manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs())], reason="full")
    holds.place([one.ref for one in parked], actor=SYSTEM, reason="later")

    (kind,) = heads.kinds(0.0)
    (entry,) = heads.foremost(4, 0.0)

    assert (kind.queue, kind.needs, kind.urgency) == ("control", Needs(), 3)
    assert PauseQueueEntry.objects.get(pk=entry.pk).ref == "import:1"


def test_of_a_kind_a_poll_takes_the_most_urgent_first_whatever_its_queue_has():
    node(HERE, cores=100)
    for priority in (5, 2, 4):
        manager.pause_work(
            [WithheldDispatch(f"import:{priority}", "others.work", "control", Needs(), priority=priority)],
            reason="full",
        )

    assert [entry.priority for entry in heads.foremost(1, 0.0)] == [2]
    assert heads.queues() == ["control"]
