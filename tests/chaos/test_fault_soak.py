"""Stages that exit, panic, hang, keep the GIL, eat memory and die, over kills and deploys with changed code.

``SOAK_MINUTES`` (default 2) says for how long. Every good item is done once, every bad one fails with its reason, and
no run is silent for longer than a minute: something of it moves, or ``explain`` says why not.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.trials import BAD, RELEASE, deed_of, may_say

MINUTES = float(os.environ.get("SOAK_MINUTES", "2"))
SETTLE_SECONDS = 300
SILENT_SECONDS = 60.0
AT_ONCE = 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(MINUTES * 60 + SETTLE_SECONDS + 240),
]

_MOVED = """
    SELECT (SELECT coalesce(sum(slice.processed + slice.failed), 0) FROM automation_workslice AS slice
              JOIN automation_stagerun AS stage ON stage.id = slice.stage_run_id WHERE stage.run_id = run.id),
           (SELECT count(*) FROM pause_manager_controlevent WHERE scope = 'run:' || run.id), run.lifecycle
      FROM automation_automationrun AS run WHERE run.id = %s
"""
_OUTPUTS = """
    SELECT (item.payload ->> 'n')::int FROM automation_workitem AS item
      JOIN automation_stagerun AS stage ON stage.id = item.made_by_id WHERE stage.run_id = %s AND stage.slug = 'keep'
"""
_FAILURES = """
    SELECT (failure.payload ->> 'n')::int, failure.error FROM automation_itemfailure AS failure
      JOIN automation_stagerun AS stage ON stage.id = failure.stage_run_id WHERE stage.run_id = %s
"""


class Trials:
    """One run, and when something of it was last seen to move."""

    def __init__(self, fleet: Fleet, seed: int, items: int) -> None:
        self.fleet, self.seed, self.items = fleet, seed, items
        self.id: str = fleet.ask("create", pipeline="trials", params={"items": items, "seed": seed})["id"]
        self.moved_at = time.monotonic()
        self.longest = 0.0
        self._last: Any = None

    def look(self) -> bool:
        """Whether it has ended. Fails if it has been silent for too long."""
        (now,) = self.fleet.query(_MOVED, self.id)
        if now != self._last or self.fleet.ask("reasons", run=self.id)["reasons"]:
            self._last, self.moved_at = now, time.monotonic()
        silent = time.monotonic() - self.moved_at
        self.longest = max(self.longest, silent)
        assert silent < SILENT_SECONDS, f"run {self.id} says nothing: {self.fleet.try_to('look', run=self.id)}"
        return now[2] in ("completed", "failed", "cancelled")

    def check(self) -> None:
        assert self.fleet.ask("look", run=self.id)["lifecycle"] == "completed"
        deeds = {n: deed_of(self.seed, n) for n in range(self.items)}
        done = Counter(n for (n,) in self.fleet.query(_OUTPUTS, self.id))
        failed = dict(self.fleet.query(_FAILURES, self.id))
        assert done == Counter(n for n, deed in deeds.items() if deed not in BAD)
        wrong = {
            n: (deed, failed.get(n))
            for n, deed in deeds.items()
            if deed in BAD and not any(said in failed.get(n, "") for said in may_say(deed))
        }
        assert wrong == {}
        assert set(failed) == {n for n, deed in deeds.items() if deed in BAD}


class Storm:
    """What happens to the fleet, by the dice."""

    def __init__(self, fleet: Fleet, dice: random.Random) -> None:
        self.fleet, self.dice = fleet, dice
        self.runs: list[Trials] = []
        self.done: Counter[str] = Counter()

    def work(self) -> None:
        """Keep some runs going."""
        if sum(not run.look() for run in self.runs) < AT_ONCE:
            self.runs.append(Trials(self.fleet, self.dice.randrange(1_000_000), self.dice.randint(10, 40)))

    def happen(self) -> None:
        """Something, or nothing."""
        if self.dice.random() < 0.25:
            blows: list[Callable[[], object]] = [
                self.kill_loop,
                self.kill_loop,
                self.kill_stages,
                self.deploy,
                self.pause,
            ]
            blow = self.dice.choice(blows)
            blow()
            self.done[blow.__name__] += 1

    def kill_loop(self) -> None:
        with contextlib.suppress(psutil.Error, IndexError):
            self.dice.choice(self.fleet.children("stages")).kill()

    def kill_stages(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.fleet.members["stages"].pid, signal.SIGKILL)

    def deploy(self, release: str = "") -> None:
        """The stage workers restart with the other release's code; what they have in hand is cut off after 5 s."""
        self.fleet.env[RELEASE] = release or self.dice.choice("ab")
        self.fleet.send("stages", signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.fleet.members["stages"].wait(5)
        with contextlib.suppress(ProcessLookupError):  # nothing may be left of it
            self.fleet.kill("stages")
        self.fleet.start("stages")

    def pause(self) -> None:
        run = self.dice.choice(self.runs)
        self.fleet.try_to("pause", run=run.id)
        time.sleep(self.dice.uniform(0, 3))
        self.fleet.try_to("resume", run=run.id)


def test_good_items_are_done_once_and_bad_ones_fail_with_their_reason(fleet: Fleet, seed: int):
    storm = Storm(fleet, random.Random(seed))
    end = time.monotonic() + MINUTES * 60

    try:
        while time.monotonic() < end:
            storm.work()
            storm.happen()
            time.sleep(storm.dice.uniform(0, 1))
        storm.deploy("a")
        deadline = time.monotonic() + SETTLE_SECONDS
        while not all(list(map(Trials.look, storm.runs))) and time.monotonic() < deadline:
            time.sleep(1)
        items, longest = sum(run.items for run in storm.runs), max(run.longest for run in storm.runs)
        print(f"[soak] {len(storm.runs)} runs, {items} items, {dict(storm.done)}; silent for {longest:.0f} s at most")
        for run in storm.runs:
            run.check()
    finally:
        fleet.env.pop(RELEASE, None)
