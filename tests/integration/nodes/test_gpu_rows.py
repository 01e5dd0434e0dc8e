"""Rows that name GPUs: by UUID, and readable where they were written before that."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from automation import leases
from automation.leases.holders import Worker
from automation.models import WorkSlice
from pause_manager import workloads
from pause_manager.models import RunningTask
from tests.support.factories import make_run, stage_of
from tests.support.sampled_fleet import gpu, node

pytestmark = pytest.mark.django_db(transaction=True)


def migrate(name: str | None = None) -> None:
    """To that migration of ``automation``, or to the newest of every app."""
    executor = MigrationExecutor(connection)
    executor.migrate([("automation", name)] if name else executor.loader.graph.leaf_nodes())


@pytest.mark.slow
def test_leases_in_force_keep_their_gpus_over_the_upgrade():
    here = node("gpu-node", cores=64, gpus=(gpu(0), gpu(1)))
    stage_run = stage_of(make_run("on-gpu", items=2))
    work = leases.claim(stage_run.pk, Worker("test/1", "gpu-node"))
    assert work is not None
    try:
        migrate("0009_lost_slices")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE automation_workslice SET lease_gpus = '{1}' WHERE id = %s", [work.slice_id])
    finally:
        migrate()

    assert WorkSlice.objects.get(pk=work.slice_id).lease_gpus == ["1"]
    carried = here.carrying(workloads.allocations_by_node("gpu-node")["gpu-node"])
    assert [load.gpus for load in carried.allocations] == [("GPU-1",)]


def test_a_task_that_started_before_the_upgrade_keeps_its_gpu():
    here = node("gpu-node", gpus=(gpu(0), gpu(1)))
    RunningTask.objects.create(
        task_id="t",
        task_name="t",
        queue="q",
        node="gpu-node",
        worker="w",
        owner="o",
        turn=uuid4(),
        acks_late=True,
        needs={"cpu": 1.0, "memory_mib": 0, "gpu_memory_mib": 1000, "gpus": 1},
        gpus=[0],
    )

    carried = here.carrying(workloads.allocations_by_node("gpu-node")["gpu-node"])

    assert [load.gpus for load in carried.allocations] == [("GPU-0",)]
