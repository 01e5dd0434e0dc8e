"""Runs and a foreign project on one fleet, under random toggles, kills and restarts: everything is done, once each.

``SOAK_MINUTES`` (default 2) says for how long.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.runs import Run

if TYPE_CHECKING:
    from tests.chaos.foreign_project import Foreigners

MINUTES = float(os.environ.get("SOAK_MINUTES", "2"))
SETTLE_SECONDS = 240

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(MINUTES * 60 + SETTLE_SECONDS + 240),
]


class Soak:
    """What happens to the fleet, by the dice, while both kinds of work go on."""

    def __init__(self, fleet: Fleet, foreigners: Foreigners, dice: random.Random) -> None:
        self.fleet = fleet
        self.foreigners = foreigners
        self.dice = dice
        self.runs: list[Run] = []
        self.done: Counter[str] = Counter()

    def happen(self) -> None:
        """Something, or nothing."""
        if self.dice.random() < 0.4:
            self.do(self.dice.choice(self.blows()))

    def blows(self) -> list[Callable[[], object]]:
        return [
            *[self.toggle] * 3,
            self.foreigners.kill_child,
            self.foreigners.kill_worker,
            self.kill_loop,
            self.kill_stages,
            self.kill_control,
            self.restart,
        ]

    def do(self, what: Callable[[], object]) -> None:
        if what() is not False:
            self.done[what.__name__] += 1

    def work(self) -> None:
        """Keep both kinds of work going."""
        self.foreigners.pour()
        if not self.runs or self.runs[-1].status == "completed":
            self.runs.append(Run(self.fleet, items=self.dice.randint(20, 60), seconds=self.dice.choice([0.02, 0.1])))

    def toggle(self) -> None:
        """Pause the fleet for a while, and perhaps kill some of it meanwhile."""
        self.fleet.ask("fleet_pause", mode=self.dice.choice(["drain", "quiesce"]))
        time.sleep(self.dice.uniform(0.2, 4))
        if self.dice.random() < 0.4:
            self.do(self.dice.choice([self.foreigners.kill_worker, self.kill_stages, self.kill_control]))
        self.fleet.ask("fleet_resume")

    def kill_loop(self) -> None:
        with contextlib.suppress(psutil.Error, IndexError):
            self.dice.choice(self.fleet.children("stages")).kill()

    def kill_stages(self) -> None:
        os.killpg(self.fleet.members["stages"].pid, signal.SIGKILL)

    def kill_control(self) -> None:
        os.killpg(self.fleet.members[self.dice.choice(["control", "beat"])].pid, signal.SIGKILL)

    def restart(self) -> None:
        if self.dice.random() < 0.5:
            self.foreigners.restart()
        else:
            self.fleet.restart("stages")


@pytest.fixture
def soak(fleet: Fleet, tmp_path: Path, seed: int) -> Iterator[Soak]:
    from tests.chaos.foreign_project import Foreigners

    dice = random.Random(seed)
    foreigners = Foreigners(fleet, tmp_path, dice)
    try:
        foreigners.open()
        yield Soak(fleet, foreigners, dice)
    finally:
        foreigners.close()


@pytest.mark.req("P-16", "W-29", "W-45")
def test_runs_and_foreign_tasks_are_all_done_once(soak: Soak):
    foreigners = soak.foreigners
    end = time.monotonic() + MINUTES * 60

    while time.monotonic() < end:
        soak.work()
        soak.happen()
        time.sleep(soak.dice.uniform(0, 0.5))
    soak.fleet.mend()

    deadline = time.monotonic() + SETTLE_SECONDS
    while foreigners.left() and time.monotonic() < deadline:
        time.sleep(1)
    pieces = len(foreigners.keys)
    print(f"[soak] {pieces} pieces of foreign work, {len(soak.runs)} runs, {dict(soak.done)}")
    assert foreigners.left() == set(), "nothing is lost"
    assert foreigners.unexplained() == [], "nothing ran twice but what a kill cut off"
    assert foreigners.started_while_held() == []
    for run in soak.runs:
        run.check_complete()
