"""Workers die in every way while they work; the run goes on by itself and nothing is lost or doubled."""

from __future__ import annotations

import time

import psutil
import pytest

from tests.chaos.fleet import Fleet, eventually
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]


@pytest.mark.slow
def test_an_undisturbed_run_attempts_every_item_once(fleet: Fleet):
    run = Run(fleet)

    run.check_complete()

    assert run.ledger.repeats() == {}


@pytest.mark.slow
def test_a_killed_child_of_the_pool_costs_seconds(fleet: Fleet, report):
    run = Run(fleet, items=30)
    run.wait_until_at("toil")

    lost, killed = run.kill_mid_item()

    run.check_complete()
    seconds = run.ledger.seconds_to_repeat(lost, killed)
    assert seconds is not None
    report("child killed: its item is attempted again after", seconds)
    assert seconds < SURVIVAL_SECONDS
    assert set(run.ledger.repeats().values()) <= {2}


@pytest.mark.slow
def test_a_killed_only_child_is_replaced(fleet: Fleet, report):
    """With one process in the pool nobody else can take the slice over."""
    fleet.restart("stages", "--concurrency", "1")
    run = Run(fleet, items=20)
    run.wait_until_at("toil")

    lost, killed = run.kill_mid_item()

    run.check_complete()
    seconds = run.ledger.seconds_to_repeat(lost, killed)
    assert seconds is not None
    report("only child killed: its item is attempted again after", seconds)
    assert seconds < SURVIVAL_SECONDS


def test_a_killed_worker_is_survived_and_its_orphans_end(fleet: Fleet, report):
    """The parent dies alone: its children must neither work on unseen nor be left behind."""
    run = Run(fleet, items=60)
    run.wait_until_at("toil")
    orphans = fleet.children("stages")

    fleet.kill("stages", group=False)
    killed = time.time()
    gone, left = psutil.wait_procs(orphans, timeout=15)
    report("parent killed: its children have ended after", time.time() - killed)
    fleet.start("stages")

    assert not left
    assert len(gone) == 2
    assert run.leases() == 0 or eventually(lambda: run.leases() == 0, 10)
    run.check_complete()
    assert run.ledger.longest_silence(killed) < SURVIVAL_SECONDS + fleet.start_seconds


@pytest.mark.slow
def test_a_worker_killed_with_all_its_children_is_survived(fleet: Fleet, report):
    run = Run(fleet, items=30)
    run.wait_until_at("toil")

    fleet.kill("stages")
    killed = time.time()
    fleet.start("stages")

    seconds = run.goes_on(killed + 0.2, SURVIVAL_SECONDS + fleet.start_seconds)
    report("worker killed and started again: the run goes on after", seconds)
    run.check_complete()


@pytest.mark.slow
def test_another_worker_takes_over_from_a_killed_one(fleet: Fleet, report):
    fleet.start("stages-b")
    run = Run(fleet, items=30)
    run.wait_until_at("toil", after=10)
    mine = {child.pid for child in fleet.children("stages")}
    lost = [note for note in run.ledger.at_work("toil") if note.pid in mine]

    fleet.kill("stages")
    killed = time.time()

    run.check_complete()
    fleet.stop("stages-b")
    lost = [note for note in lost if run.ledger.last_of(note.pid) == note]
    seconds = [run.ledger.seconds_to_repeat(note, killed) for note in lost]
    report("worker killed: another attempts its items after", max((s or 0.0 for s in seconds), default=0.0))
    assert all(s is not None and s < SURVIVAL_SECONDS for s in seconds)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["control", "beat"])
def test_a_killed_servant_does_not_stop_the_work(fleet: Fleet, name: str, report):
    run = Run(fleet, items=30)
    run.wait_until_at("toil")

    fleet.kill(name)
    killed = time.time()
    _, lost_at = run.kill_mid_item()
    fleet.start(name)

    run.check_complete()
    report(f"{name} and a child killed: longest silence", run.ledger.longest_silence(killed))
    assert run.ledger.longest_silence(lost_at) < SURVIVAL_SECONDS
