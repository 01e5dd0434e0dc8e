"""A worker stopped for longer than its lease (a paused machine, a swap storm) comes back and changes nothing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.chaos.fleet import Fleet, eventually
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("chaos")]


def test_a_frozen_worker_loses_its_slice_and_changes_nothing_when_it_wakes(fleet: Fleet, report):
    fleet.start("stages-b")
    run = Run(fleet, items=10, seconds=0.5)
    run.wait_until_at("toil", after=4)
    mine = {child.pid for child in fleet.children("stages")}
    at_work = eventually(lambda: [note for note in run.ledger.at_work("toil") if note.pid in mine], 20)
    lost = at_work[0]

    os.kill(lost.pid, signal.SIGSTOP)
    frozen = time.time()
    try:
        taken = eventually(lambda: run.ledger.seconds_to_repeat(lost, frozen), SURVIVAL_SECONDS + 10)
    finally:
        os.kill(lost.pid, signal.SIGCONT)

    assert taken is not None
    report("worker frozen: another attempts its item after", taken)
    assert taken < SURVIVAL_SECONDS + 2
    run.check_complete()
    assert len(run.events("worker_lost")) == 1
