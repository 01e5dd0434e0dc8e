"""A cancel ends a run for good in each phase, and at any moment."""

from __future__ import annotations

import random
import time

import pytest

from tests.chaos.expected_outputs import expected
from tests.chaos.fleet import Fleet
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]


def check_cancelled(run: Run) -> None:
    """Final, free of leases and holds, and what was committed is right."""
    run.wait_for("cancelled", seconds=SURVIVAL_SECONDS + 5)
    shown = time.time()
    assert run.leases() == 0
    assert run.active_holds() == 0
    assert "error" in run.try_to("resume")
    assert "error" in run.try_to("pause")
    assert run.ask("cancel")["status"] == "cancelled"
    assert len(run.events("cancel")) == 1
    right = expected(run.items)
    for slug, rows in run.outputs().items():
        payloads = [payload for _, payload in rows]
        assert len({key for key, _ in rows}) == len(rows)
        if slug != "fold":
            assert all(payload in right[slug] for payload in payloads)
    time.sleep(1)
    assert run.ledger.starts_after(shown) == []
    assert run.status == "cancelled"


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["pausing", "pending", "running", "paused"])
def test_cancelled_in_each_phase(fleet: Fleet, phase: str):
    run = Run(fleet, items=5, seconds=0.5, start=phase != "pending")
    if phase != "pending":
        run.wait_until_at("toil", after=2)
    if phase in {"pausing", "paused"}:
        assert run.ask("pause")["status"] in {"pausing", "paused"}
        run.wait_for(phase, "paused")

    run.ask("cancel")

    check_cancelled(run)


@pytest.mark.slow
def test_cancelled_while_its_worker_is_dead(fleet: Fleet, report):
    run = Run(fleet, items=10, seconds=2)
    run.wait_until_at("fan", after=2)

    fleet.kill("stages")
    asked = time.time()
    assert run.ask("cancel")["status"] in {"cancelling", "cancelled"}, "the reaper may have been at it just now"
    run.wait_for("cancelled", seconds=SURVIVAL_SECONDS + 5)

    report("worker dead: cancelled after", time.time() - asked)
    check_cancelled(run)


@pytest.mark.slow
def test_cancelled_at_any_moment(fleet: Fleet, seed: int):
    """Short runs, so that many a cancel falls between two stages."""
    dice = random.Random(seed)
    for _ in range(5):
        run = Run(fleet, items=4, seconds=0.01)
        time.sleep(dice.uniform(0, 1.2))

        if run.try_to("cancel").get("status") in {"cancelling", "cancelled"}:
            check_cancelled(run)
        else:
            run.check_complete()
