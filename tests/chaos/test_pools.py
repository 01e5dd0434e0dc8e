"""Every pool that Celery offers: a run completes, pauses, resumes, and SIGTERM stops it at the next item."""

from __future__ import annotations

import time

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("chaos")]


@pytest.mark.parametrize("pool", ["gevent", "prefork", "threads", "solo"])
def test_a_run_in_a_pool(fleet: Fleet, pool: str, report):
    fleet.restart("stages", "--pool", pool, "--concurrency", "2")
    run = Run(fleet, items=16, seconds=0.1)
    run.wait_until_at("toil")

    run.ask("pause")
    paused = time.time()
    run.wait_for("paused", seconds=SURVIVAL_SECONDS)
    shown = time.time()
    time.sleep(2)
    late = run.ledger.starts_after(paused)
    report(f"{pool}: last item starts after the pause by", max((note.at - paused for note in late), default=0.0))
    report(f"{pool}: paused is shown after", shown - paused)
    assert run.ledger.starts_after(shown) == []
    assert not [note for note in late if note.at > paused + 2]

    run.ask("resume")
    resumed = time.time()
    report(f"{pool}: goes on after the resume by", run.goes_on(resumed, SURVIVAL_SECONDS))
    run.wait_until_at("toil", after=len(run.ledger.starts("toil")) + 3)
    report(f"{pool}: SIGTERM ends it after", fleet.stop("stages", 30))
    assert run.leases() == 0

    fleet.start("stages", "--pool", pool, "--concurrency", "2")
    run.check_complete()
    assert run.ledger.repeats() == {}
    assert not run.events("worker_lost")
