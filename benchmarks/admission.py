"""One admission of a newcomer while 300,000 dispatches wait for room, held ones among them; the peer: with 1,000."""

from __future__ import annotations

import time

from benchmarks.harness import Claim, median, system, watch_capacity

MANY, FEW = 300_000, 1_000
ROUNDS = 60
MUST_MS, AIM_MS = 10.0, 5.0
KINDS = 12
"""Queues x needs of what waits; each has all five priorities."""


def main() -> list[Claim]:
    """Medians of what an admission asks while its node's row is locked, without the commit of what it then starts."""
    with system():
        watch_capacity(True)
        few = _admissions(FEW)
        many = _admissions(MANY)
    note = f"{KINDS} kinds of needs and queues, a third of them held; with {FEW:,} waiting {median(few):.1f} ms"
    return [
        Claim(
            f"an admission with {MANY:,} dispatches waiting",
            median(many),
            1_000,
            "ms",
            MUST_MS,
            AIM_MS,
            of_ratio=False,
            is_larger_better=False,
            note=note,
        )
    ]


def _admissions(waiting: int) -> list[float]:
    """Milliseconds of each admission of work with so much before it."""
    from django.db import connection, transaction

    from pause_manager import holds, manager, nodes
    from pause_manager.actor import SYSTEM
    from pause_manager.capacity.needs import Needs
    from pause_manager.capacity.snapshot import NodeView
    from pause_manager.models import Hold, PauseQueueEntry
    from pause_manager.models.clock import database_seconds
    from pause_manager.nodes import members
    from pause_manager.probes.sample import Sample

    table = PauseQueueEntry._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {table} CASCADE")
        cursor.execute(_PARK.format(table=table), [waiting])
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {table}")
    if not Hold.objects.active().exists():
        holds.place(["queue:q1"], actor=SYSTEM, reason="a third of what waits")
    queues = [f"q{number}" for number in range(3)]
    members.acknowledge("worker@node", node="node", queues=queues, version=1, owner="worker")
    spent = []
    for _ in range(ROUNDS):
        view = NodeView(
            "node", database_seconds(), cores=64, foreign_cores=0, memory_mib=256_000, free_memory_mib=200_000
        )
        nodes.save_sample(Sample(view))
        with transaction.atomic():
            begun = time.perf_counter()
            answer = manager.admit_on("node", Needs(cpu=0.5), newcomer=3)
            spent.append((time.perf_counter() - begun) * 1_000)
        if answer != ():
            raise RuntimeError(f"expected room for work that is smaller than all that waits, got: {answer}")
    return spent


_PARK = """
    INSERT INTO {table} (ref, task_name, args, kwargs, queue, work_queue, priority, needs, reason, paused_at, attempts,
                         outcome, waits_for, body)
    SELECT 'bench:' || n, 'peer.noop', '[]', '{{}}', 'q' || n %% 3, 'q' || n %% 3, 1 + n %% 5,
           jsonb_build_object('cpu', 1 + n %% 4, 'memory_mib', 0, 'gpu_memory_mib', 0, 'gpus', 0), 'full',
           statement_timestamp() - make_interval(secs => n / 1000.0), 0, '', 'capacity',
           decode(repeat('ab', 500), 'hex')
      FROM generate_series(1, %s) AS n
"""


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
