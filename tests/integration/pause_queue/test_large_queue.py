"""A poll over a thousand nodes and a hundred thousand waiting entries."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pause_manager import manager, nodes
from pause_manager.capacity.snapshot import NodeView
from pause_manager.models import PauseQueueEntry, PollState, WorkerNode
from pause_manager.models.clock import database_seconds
from pause_manager.probes.sample import Sample
from tests.support.sampled_fleet import gpu

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("watching"),
    pytest.mark.slow,
    pytest.mark.timeout(400),
]

KINDS = [
    {"cpu": 1.0, "memory_mib": 0, "gpu_memory_mib": 0, "gpus": 0},
    {"cpu": 4.0, "memory_mib": 8_000, "gpu_memory_mib": 0, "gpus": 0},
    {"cpu": 2.0, "memory_mib": 0, "gpu_memory_mib": 14_000, "gpus": 1},
]


def fleet_of(count: int) -> None:
    now = database_seconds()
    samples = [
        Sample(
            NodeView(
                name=f"node-{n:04}",
                sampled_at=now,
                cores=64,
                foreign_cores=n % 64,
                memory_mib=256_000,
                free_memory_mib=128_000,
                gpus=tuple(gpu(index) for index in range(8)),
            )
        )
        for n in range(count)
    ]
    WorkerNode.objects.bulk_create([WorkerNode(name=one.view.name, sample=one.as_dict()) for one in samples])
    for one in samples:
        assert nodes.announce(one)


def queue_of(count: int) -> None:
    PauseQueueEntry.objects.bulk_create(
        [
            PauseQueueEntry(
                ref=f"import:{n}",
                task_name="others.work",
                args=[n],
                queue="control",
                priority=1 + n % 5,
                needs=KINDS[n % len(KINDS)],
                reason="full",
            )
            for n in range(count)
        ],
        batch_size=5_000,
    )
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {PauseQueueEntry._meta.db_table}")


def polled(allowance: int) -> tuple[int, int]:
    """Entries sent, statements. The seconds are measured in ``benchmarks/poll.py``."""
    PollState.objects.update_or_create(pk=1, defaults={"ramp": {"allowance": allowance, "polled_at": 0.0}})
    with CaptureQueriesContext(connection) as queries:
        done = manager.poll()
    return done.sent, len(queries)


def test_a_poll_asks_no_more_however_much_waits():
    fleet_of(10)
    queue_of(100)
    few = polled(allowance=4)
    PauseQueueEntry.objects.all().delete()
    fleet_of_more = 990
    WorkerNode.objects.all().delete()
    fleet_of(10 + fleet_of_more)
    queue_of(100_000)

    polled(allowance=1)
    one = polled(allowance=1)
    many = polled(allowance=48)

    assert (few[0], one[0], many[0]) == (4, 1, 48)
    assert few[1] == one[1] == many[1]
