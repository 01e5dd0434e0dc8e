"""Runs of one site take turns, whatever dies: each starts after the one before it has ended, and loses nothing."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from tests.chaos.fleet import Fleet, eventually
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("chaos")]


def wide(fleet: Fleet, width: int) -> None:
    done = fleet.manage("lane", "width", "chaos", str(width), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["width"] == width


def times(fleet: Fleet, run: Run) -> tuple[object, object]:
    [row] = fleet.query("SELECT started_at, finished_at FROM automation_automationrun WHERE id = %s", run.id)
    return row


@pytest.mark.parametrize("victim", ["stages", "control"])
def test_runs_take_turns_while_processes_are_killed(fleet: Fleet, victim: str):
    first = Run(fleet, items=4, seconds=0.2, start=False)
    wide(fleet, 1)
    try:
        runs = [first, *(Run(fleet, items=4, seconds=0.2, start=False) for _ in range(2))]
        for run in runs:
            run.ask("start")
        runs[0].wait_until_at("toil", after=1)
        assert [run.status for run in runs[1:]] == ["pending", "pending"]
        assert "It waits for run" in fleet.ask("reasons", run=runs[1].id)["reasons"][0]

        fleet.kill(victim)
        fleet.start(victim)
        runs[0].wait_for("completed", seconds=SURVIVAL_SECONDS + 30)
        fleet.kill(victim)
        fleet.start(victim)
        for run in runs[1:]:
            run.wait_for("completed", seconds=SURVIVAL_SECONDS + 30)

        for before, after in pairwise(runs):
            assert times(fleet, after)[0] >= times(fleet, before)[1]  # type: ignore[operator]
        for run in runs:
            run.check_complete()
        held = "SELECT count(*) FROM automation_automationrun WHERE lane_seat_at IS NOT NULL AND lane = 'chaos'"
        assert eventually(lambda: fleet.query(held) == [(0,)])
    finally:
        wide(fleet, 1_000)
