"""One poll of the pause queue: 1,000 nodes and 100,000 parked messages, the peer a hundredth of it, on a tenth.

Then the same while large work waits that small tasks on every node are in the way of: room is made for it.
"""

from __future__ import annotations

import time

from benchmarks.harness import Claim, median, system, watch_capacity

ROUNDS = 9
ALLOWANCE = 64
"""Entries that one poll may send on: the most there are for a poll to do."""


def main() -> list[Claim]:
    """Medians of polls that send as many on as they may."""
    with system():
        watch_capacity(True)
        few = _polls(nodes=100, entries=1_000)
        many = _polls(nodes=1_000, entries=100_000)
        with_room_made = _polls(nodes=1_000, entries=100_000, makes_room=True)
    note = f"{ALLOWANCE} entries sent on by each poll, nodes with 8 GPUs"
    return [
        Claim(
            "a poll over 1,000 nodes and 100,000 parked messages (peer: 100 and 1,000)",
            *(median(many), median(few), "s", 1.0, 0.5),
            of_ratio=False,
            is_larger_better=False,
            note=note,
        ),
        Claim(
            "the same, with 8,000 running tasks and four kinds of work that need a whole node (peer: without)",
            *(median(with_room_made), median(many), "s", 1.0, 0.5),
            of_ratio=False,
            is_larger_better=False,
            note=f"{note}; four nodes made free by each poll",
        ),
    ]


def _polls(*, nodes: int, entries: int, makes_room: bool = False) -> list[float]:
    """Seconds of each poll over that many nodes and entries; samples are renewed before each, as they would be."""
    from pause_manager import manager
    from pause_manager.models import PauseQueueEntry, PollState, RunningTask, WorkerNode

    WorkerNode.objects.all().delete()
    PauseQueueEntry.objects.all().delete()
    RunningTask.objects.all().delete()
    _park(entries)
    if makes_room:
        _fill(nodes)
    spent = []
    for _ in range(ROUNDS):
        _sample(nodes)
        PollState.objects.update_or_create(pk=1, defaults={"ramp": {"allowance": ALLOWANCE, "polled_at": 0.0}})
        begun = time.perf_counter()
        done = manager.poll()
        spent.append(time.perf_counter() - begun)
        if done.sent != ALLOWANCE:
            raise RuntimeError(f"expected a poll that sends {ALLOWANCE} on, got: {done}")
        made = len(PollState.objects.get().ramp["making"])
        if made != 4 * makes_room:
            raise RuntimeError(f"expected a poll that makes {4 * makes_room} nodes free, got: {made}")
    return spent


def _sample(count: int) -> None:
    from pause_manager.capacity.snapshot import GpuView, NodeView
    from pause_manager.models.clock import database_seconds
    from pause_manager.nodes import registry
    from pause_manager.probes.sample import Sample

    gpus = tuple(GpuView(index, total_mib=24_000, free_mib=24_000, utilisation=0.0) for index in range(8))
    for number in range(count):
        view = NodeView(
            name=f"node-{number:04}",
            sampled_at=database_seconds(),
            cores=64,
            foreign_cores=number % 48,
            memory_mib=256_000,
            free_memory_mib=128_000,
            gpus=gpus,
        )
        registry.save_sample(Sample(view))
        registry.announce(Sample(view))


def _park(count: int) -> None:
    from django.db import connection

    from pause_manager.models import PauseQueueEntry

    kinds = [
        {"cpu": 1.0, "memory_mib": 0, "gpu_memory_mib": 0, "gpus": 0},
        {"cpu": 4.0, "memory_mib": 8_000, "gpu_memory_mib": 0, "gpus": 0},
        {"cpu": 2.0, "memory_mib": 0, "gpu_memory_mib": 14_000, "gpus": 1},
    ]
    PauseQueueEntry.objects.bulk_create(
        [
            PauseQueueEntry(
                ref=f"bench:{number}",
                task_name="peer.noop",
                args=[number],
                queue="bench",
                priority=1 + number % 5,
                needs=kinds[number % len(kinds)],
                reason="full",
            )
            for number in range(count)
        ],
        batch_size=5_000,
    )
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {PauseQueueEntry._meta.db_table}")


def _fill(nodes: int) -> None:
    """Eight small tasks on each node that have run for two minutes, and four kinds of work as large as a node."""
    from datetime import timedelta

    from django.db.models.functions import Now

    from pause_manager.models import PauseQueueEntry, RunningTask

    RunningTask.objects.bulk_create(
        [
            RunningTask(
                task_id=f"{number}-{place}",
                task_name="peer.noop",
                queue="bench",
                node=f"node-{number:04}",
                worker=f"w@{number}",
                owner="bench",
                acks_late=False,
                needs={"cpu": 1.0, "memory_mib": 0, "gpu_memory_mib": 0, "gpus": 0},
                polls_for_stop=True,
                started_at=Now() - timedelta(minutes=2),
            )
            for number in range(nodes)
            for place in range(8)
        ],
        batch_size=5_000,
    )
    large = [{"cpu": 61.0 + kind, "memory_mib": 0, "gpu_memory_mib": 0, "gpus": 0} for kind in range(4)]
    PauseQueueEntry.objects.bulk_create(
        [
            PauseQueueEntry(
                ref=f"large:{number}",
                task_name="peer.noop",
                args=[number],
                queue="bench",
                work_queue="bench",
                priority=1,
                needs=needs,
                reason="full",
            )
            for number, needs in enumerate(large)
        ]
    )
    PauseQueueEntry.objects.filter(ref__startswith="large:").update(paused_at=Now() - timedelta(minutes=5))


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
