"""SIGTERM stops a worker at the next item: leases given back, nothing repeated, out in seconds."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.chaos.fleet import Fleet, eventually
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]


@pytest.mark.slow
@pytest.mark.parametrize("group", [pytest.param(False, id="parent"), pytest.param(True, id="group")])
def test_a_worker_stops_at_the_next_item(fleet: Fleet, group: bool, report):
    run = Run(fleet, items=8, seconds=0.5)
    run.wait_until_at("toil", after=3)

    fleet.send("stages", signal.SIGTERM, group=group)
    asked = time.time()
    fleet.members["stages"].wait(30)
    ended = time.time()

    assert run.leases() == 0
    report(f"SIGTERM to the {'group' if group else 'parent'}: ended after", ended - asked)
    assert ended - asked < 10
    assert len(run.ledger.starts_after(asked + 0.5)) <= 2
    fleet.start("stages")
    run.check_complete()
    assert run.ledger.repeats() == {}
    assert not run.events("worker_lost")


@pytest.mark.slow
def test_an_item_that_outlasts_its_lease_is_finished_by_a_worker_that_is_told_to_end(fleet: Fleet):
    run = Run(fleet, items=1, seconds=20)
    run.wait_until_at("toil", after=1)

    fleet.stop("stages")

    assert run.leases() == 0
    assert len(run.outputs()["toil"]) == 1
    fleet.start("stages")
    run.check_complete()
    assert run.ledger.repeats() == {}
    assert not run.events("worker_lost")


@pytest.mark.slow
def test_a_cold_shutdown_ends_too(fleet: Fleet, report):
    """SIGQUIT makes Celery end its children without waiting for their tasks."""
    run = Run(fleet, items=8, seconds=0.5)
    run.wait_until_at("toil", after=3)
    family = [psutil.Process(fleet.members["stages"].pid), *fleet.children("stages")]

    fleet.send("stages", signal.SIGQUIT)
    asked = time.time()
    fleet.members["stages"].wait(30)
    _, left = psutil.wait_procs(family, timeout=10)

    report("SIGQUIT: all ended after", time.time() - asked)
    assert not left
    fleet.start("stages")
    run.check_complete()


@pytest.mark.slow
def test_a_child_told_to_end_stops_at_the_next_item_and_is_replaced(fleet: Fleet, report):
    """``celery control terminate`` and Flower send SIGTERM to one child; nothing may spin after that."""
    fleet.restart("stages", "--concurrency", "1")
    run = Run(fleet, items=5, seconds=0.5)
    run.wait_until_at("toil", after=2)
    child = run.ledger.at_work()[0].pid

    os.kill(child, signal.SIGTERM)
    asked = time.time()

    assert eventually(lambda: run.events("stopped"), 10)
    seconds = run.goes_on(asked + 0.6, SURVIVAL_SECONDS)
    report("SIGTERM to a child: the run goes on after", seconds + 0.6)
    run.check_complete()
    assert run.ledger.repeats() == {}
    assert len(run.events("stopped")) <= 3
