"""A pause holds through every crash, and a resume goes on from exactly there."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]

QUIET_SECONDS = 6.0
"""Longer than a reconcile: whatever would start by itself has started by then."""


def crash_all(fleet: Fleet) -> None:
    """Kill every worker, beat and both servers at once, and start them all again."""
    for name in ("stages", "control", "beat"):
        fleet.kill(name)
    fleet.crash_postgres()
    fleet.redis.stop()
    fleet.mend()


def nothing(fleet: Fleet) -> None:
    """No crash, for comparison."""


@pytest.mark.slow
def test_a_pause_is_heard_at_once_and_paused_is_never_said_too_early(fleet: Fleet, report):
    run = Run(fleet, items=40)
    run.wait_until_at("toil")

    run.ask("pause")
    paused = time.time()
    run.wait_for("paused")
    shown = time.time()
    time.sleep(QUIET_SECONDS)

    late = run.ledger.starts_after(paused)
    report("pause answered: last item starts after", max((note.at - paused for note in late), default=0.0))
    report("pause answered: paused is shown after", shown - paused)
    assert not [note for note in late if note.at > paused + 2]
    assert run.ledger.starts_after(shown) == []
    assert run.status == "paused"
    run.ask("resume")
    run.check_complete()
    assert run.ledger.repeats() == {}


@pytest.mark.slow
def test_a_worker_killed_while_pausing(fleet: Fleet, report):
    run = Run(fleet, items=3, seconds=2)
    run.wait_until_at("toil", after=2)

    assert run.ask("pause")["status"] == "pausing"
    fleet.kill("stages")
    killed = time.time()
    while (status := run.status) == "pausing":
        assert time.time() - killed < SURVIVAL_SECONDS + 5
    assert status == "paused"
    assert run.leases() == 0

    report("worker killed while pausing: paused is shown after", time.time() - killed)
    shown = time.time()
    fleet.start("stages")
    time.sleep(QUIET_SECONDS)
    assert run.ledger.starts_after(shown) == []
    run.ask("resume")
    run.check_complete()


@pytest.mark.req("P-35")
@pytest.mark.parametrize(
    ("at_pause", "at_resume"),
    [
        pytest.param("paused", crash_all, marks=pytest.mark.slow),
        pytest.param("pausing", crash_all, marks=pytest.mark.slow),
        pytest.param("paused", nothing, marks=pytest.mark.slow),
        pytest.param("pausing", nothing, marks=pytest.mark.slow),
    ],
)
def test_everything_restarted_between_pause_and_resume(
    fleet: Fleet, at_pause: str, at_resume: Callable[[Fleet], None], report
):
    run = Run(fleet, items=20, seconds=0.2)
    run.wait_until_at("toil")

    run.ask("pause")
    run.wait_for(at_pause, "paused")
    crash_all(fleet)
    run.wait_for("paused", seconds=SURVIVAL_SECONDS + 5)
    shown = time.time()
    time.sleep(QUIET_SECONDS)
    assert run.ledger.starts_after(shown) == []
    assert run.status == "paused"
    before = run.outputs()

    run.ask("resume")
    resumed = time.time()
    at_resume(fleet)
    report(f"restarted while {at_pause}, then resumed: goes on after", run.goes_on(resumed, SURVIVAL_SECONDS + 10))

    run.check_complete()
    done = {key.rpartition(".")[0] for key, _ in before["toil"]}
    assert done.isdisjoint(note.key for note in run.ledger.starts_after(resumed) if note.stage == "toil")
    assert all(output in run.outputs()["toil"] for output in before["toil"])


@pytest.mark.slow
def test_resumed_twice_at_once(fleet: Fleet):
    run = Run(fleet, items=30)
    run.wait_until_at("toil")
    run.ask("pause")
    run.wait_for("paused")
    fleet.stop("stages")

    answers = run.ask("resume_twice")["answers"]

    tickets, wanted = run.tickets(), min(16, run.open_slices())
    assert sorted(answers) == ["refused", "resumed"]
    assert len(run.events("hold_released")) == 1
    assert tickets == wanted
    fleet.start("stages")
    run.check_complete()
    assert run.ledger.repeats() == {}


@pytest.mark.slow
def test_a_pause_during_the_last_item_keeps_the_hook_that_follows(fleet: Fleet):
    """All items are done while the run is paused: ``finish`` has not begun, and waits for the resume."""
    run = Run(fleet, items=2, seconds=1)
    run.wait_until_at("fold", after=2)

    run.ask("pause")
    run.wait_for("paused")
    shown = time.time()
    time.sleep(QUIET_SECONDS)

    assert run.status == "paused"
    assert run.ledger.starts_after(shown) == []
    run.ask("resume")
    run.check_complete()
