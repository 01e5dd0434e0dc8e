"""An item that kills its worker is given up; the run is completed without it."""

from __future__ import annotations

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.runs import Run

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]


@pytest.mark.slow
def test_an_item_that_kills_its_worker_is_given_up(fleet: Fleet, report):
    run = Run(fleet, items=10, poison=11)

    run.check_complete(failed=1)

    ((key, error, attempts),) = run.failures()
    tries = [note for note in run.ledger.starts("toil") if note.key == key]
    report("poison item: attempts", len(tries))
    report("poison item: given up after", run.ledger.notes()[-1].at - tries[0].at)
    assert error == "WorkerLost: worker lost while processing"
    assert attempts == 3
    assert len(tries) in {3, 4}  # the first loss may find earlier items uncommitted, so that it is not blamed
    assert len({note.pid for note in tries}) == len(tries)
    assert len(run.events("item_given_up")) == 1
