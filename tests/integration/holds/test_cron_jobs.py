"""Work that is neither a run nor a task: the commands of ``examples/cron_jobs``, with real processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import transaction

from examples.cron_jobs.jobs import CronJobs
from pause_manager import fleet, holds, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.fleet import drain
from pause_manager.models import ControlEvent, Hold
from pause_manager.nodes.machines import identity
from tests.support.factories import OPERATOR
from tests.support.workers import eventually

pytestmark = pytest.mark.django_db(transaction=True)

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[CronJobs]:
    found = CronJobs(tmp_path)
    workloads.register(found)
    try:
        yield found
    finally:
        workloads.unregister(found)
        found.give_way([job.ref for job in found.running()], "the test has ended")
        assert eventually(lambda: not found.running())


def test_a_hold_stops_it_and_it_counts_until_it_has_ended(jobs: CronJobs):
    assert jobs.start("report", SLEEP, Needs(cpu=1)) == ""

    holds.place(["queue:cron"], mode=Hold.Mode.DRAIN, actor=OPERATOR, reason="disks")

    assert jobs.start("another", SLEEP, Needs(cpu=1)) == "Held by queue:cron: disks"
    assert [job.name for job in jobs.running()] == ["report"], "a hold that drains lets it finish"
    placed = ControlEvent.objects.get(action="hold_placed", scope="queue:cron")
    assert placed.details["at_hand"] == {"commands": 1}

    holds.alter(["queue:cron"], mode=Hold.Mode.QUIESCE, actor=OPERATOR, reason="now")

    assert eventually(lambda: not jobs.running()), "one that quiesces ends it"
    holds.release(["queue:cron"], actor=OPERATOR)
    assert jobs.start("another", SLEEP, Needs(cpu=1)) == ""


def test_a_hold_that_is_rolled_back_stops_nothing(jobs: CronJobs):
    assert jobs.start("report", SLEEP, Needs(cpu=1)) == ""

    with transaction.atomic():
        holds.place(["queue:cron"], actor=OPERATOR, reason="disks")
        transaction.set_rollback(True)

    assert [job.name for job in jobs.running()] == ["report"]


def test_nodes_carry_it_and_the_fleet_is_drained_when_it_has_ended(jobs: CronJobs):
    assert jobs.start("report", SLEEP, Needs(cpu=1)) == ""

    carried = workloads.allocations_by_node(identity.name())[identity.name()]
    assert [(one.ref, one.needs) for one in carried] == [("cron:report", Needs(cpu=1))]
    fleet.pause(mode="drain", actor=OPERATOR, reason="upgrade")
    left = drain.measure("drain")
    assert (left.running, left.is_drained, left.blockers[0].ref) == (1, False, "cron:report")

    workloads.give_way(["cron:report"], "other processes need this machine")

    assert eventually(lambda: drain.measure("drain").is_drained)
