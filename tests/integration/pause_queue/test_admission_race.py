"""Admissions that race for one GPU: one lease, never two; and without the lock on the node, two."""

from __future__ import annotations

import time
from functools import partial

import pytest
from django.db.backends.utils import CursorWrapper

from automation import leases
from automation.dispatch import admission
from automation.errors import NoRoom
from automation.leases.holders import Worker
from automation.models import Ticket, WorkSlice
from pause_manager.models import Hold
from tests.support.factories import make_run, stage_of
from tests.support.race import race
from tests.support.sampled_fleet import NeedsGpu, gpu, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


def claim_here(stage_run_id: int, name: str) -> bool:
    try:
        work = leases.claim(
            stage_run_id,
            Worker(f"test/{name}", "gpu-node"),
            room=partial(admission.room_here, needs=NeedsGpu.needs, pipeline="on-gpu"),
        )
    except NoRoom:
        return False
    return work is not None


def open_stage() -> int:
    """A running stage that the gate lets claim, and no message out that would reserve the GPU."""
    stage_run = stage_of(make_run("on-gpu", items=10))
    Ticket.objects.all().delete()
    assert not Hold.objects.active().exists()
    return stage_run.pk


def leased_in_a_race(racers: int) -> int:
    """Leases that a race gives out; the stages are of different runs, so that only the node makes them queue."""
    WorkSlice.objects.all().delete()
    stage_runs = [open_stage() for _ in range(10)]
    granted = race(*[partial(claim_here, stage_runs[n % 10], str(n)) for n in range(racers)])
    leased = WorkSlice.objects.leased()
    assert leased.count() == sum(granted)
    assert all(gpus == ["GPU-0"] for gpus in leased.values_list("lease_gpus", flat=True))
    return sum(granted)


def meddle(monkeypatch, *, without_lock: bool) -> None:
    """Let time pass between what an admission sees and what it writes, with or without the lock on the node."""
    execute = CursorWrapper.execute

    def slowly(self, sql, params=None):
        if isinstance(sql, str) and "nextval" in sql:
            time.sleep(0.03)
        if isinstance(sql, str) and without_lock and "workernode" in sql and sql.endswith("FOR NO KEY UPDATE"):
            sql = sql.removesuffix("FOR NO KEY UPDATE")
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", slowly)


def test_a_hundred_admissions_for_one_gpu_give_one_lease(monkeypatch):
    meddle(monkeypatch, without_lock=False)
    node("gpu-node", cores=64, gpus=(gpu(),))

    assert leased_in_a_race(100) == 1


@pytest.mark.slow
def test_without_the_lock_on_the_node_there_are_more(monkeypatch):
    meddle(monkeypatch, without_lock=True)
    node("gpu-node", cores=64, gpus=(gpu(),))

    assert max(leased_in_a_race(20) for _ in range(5)) > 1


def test_a_lease_is_given_the_gpu_that_has_room():
    node("gpu-node", cores=64, gpus=(gpu(0, free=2_000), gpu(1), gpu(2, problem="fell off the bus")))
    run = make_run("on-gpu", items=3)

    assert claim_here(stage_of(run).pk, "a")
    assert not claim_here(stage_of(run).pk, "b")
    assert WorkSlice.objects.leased().get().lease_gpus == ["GPU-1"]
