"""Everything at once: random crashes, pauses and resumes at random times, run after run."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.chaos.fleet import Fleet, eventually
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]

LONG_SECONDS = float(os.environ.get("CHAOS_SECONDS", "240"))


class Storm:
    """Breaks things on one fleet while one run after the other works on it."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.worst = 0.0
        self.history: list[str] = []

    def one_run(self, blows: int) -> None:
        dice = self.dice
        run = Run(self.fleet, items=dice.randint(20, 60), seconds=dice.choice([0.01, 0.05, 0.1]))
        try:
            for _ in range(blows):
                time.sleep(dice.uniform(0, 1.5))
                blow = dice.choice(self.blows())
                moment = time.time()
                self.history.append(f"{moment:.2f} {blow.__name__}")
                blow(run)
                self.done[blow.__name__] += 1
                if not self.go_on(run, moment):
                    break
        finally:
            self.fleet.mend()
        if "paused" in run.status or run.status == "pausing":
            run.ask("resume")
        run.check_complete()
        self.done["runs"] += 1

    def go_on(self, run: Run, moment: float) -> bool:
        """Wait until the run has gone on after a blow (three crashes on one item would rightly give it up)."""
        self.fleet.mend()
        mended = time.time()
        if run.status in {"pausing", "paused"}:
            return True
        before = len(run.ledger.starts())
        moved = eventually(
            lambda: len(run.ledger.starts()) > before + 3 or run.try_to("look").get("status") == "completed",
            SURVIVAL_SECONDS + 10,
        )
        assert moved, (
            f"nothing started for {time.time() - mended:.0f} s after {self.history[-5:]}: {run.try_to('look')}"
        )
        after = [note.at for note in run.ledger.starts_after(mended)]
        self.worst = max(self.worst, (after[0] - mended) if after else 0.0)
        return run.status != "completed"

    def blows(self) -> list[Callable[[Run], None]]:
        return [
            self.child_killed,
            self.worker_killed,
            self.worker_terminated,
            self.control_killed,
            self.beat_killed,
            self.redis_emptied,
            self.redis_away,
            self.postgres_crashed,
            self.postgres_and_worker_killed,
            self.pause,
            self.pause_and_kill,
            self.resume,
        ]

    def child_killed(self, run: Run) -> None:
        children = self.fleet.children("stages")
        if children:
            self.dice.choice(children).kill()

    def worker_killed(self, run: Run) -> None:
        self.fleet.kill("stages", group=self.dice.random() < 0.5)

    def worker_terminated(self, run: Run) -> None:
        self.fleet.send("stages", signal.SIGTERM, group=self.dice.random() < 0.5)
        self.fleet.members["stages"].wait(30)

    def control_killed(self, run: Run) -> None:
        self.fleet.kill("control")

    def beat_killed(self, run: Run) -> None:
        self.fleet.kill("beat")

    def redis_emptied(self, run: Run) -> None:
        self.fleet.flush_redis()

    def redis_away(self, run: Run) -> None:
        self.fleet.redis.stop()
        time.sleep(self.dice.uniform(0, 3))

    def postgres_crashed(self, run: Run) -> None:
        self.fleet.crash_postgres()
        time.sleep(self.dice.uniform(0, 3))

    def postgres_and_worker_killed(self, run: Run) -> None:
        self.fleet.crash_postgres()
        self.fleet.kill("stages")

    def pause(self, run: Run) -> None:
        if run.try_to("pause").get("status") in {"pausing", "paused"}:
            run.wait_for("paused", "completed", seconds=SURVIVAL_SECONDS + 10)
            shown = time.time()
            if run.status == "paused":
                time.sleep(self.dice.uniform(0, 2))
                assert run.ledger.starts_after(shown) == []

    def pause_and_kill(self, run: Run) -> None:
        run.try_to("pause")
        self.fleet.kill("stages")
        self.pause(run)

    def resume(self, run: Run) -> None:
        run.try_to("resume")


@pytest.mark.slow
@pytest.mark.req("P-35")
@pytest.mark.timeout(300)
def test_a_short_storm(fleet: Fleet, seed: int, report):
    storm = Storm(fleet, seed)

    storm.one_run(blows=4)

    report("storm: longest wait for the next item once all is up again", storm.worst)


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS * 2 + 300)
def test_a_long_storm(fleet: Fleet, seed: int, report):
    storm = Storm(fleet, seed)
    ends = time.monotonic() + LONG_SECONDS

    while time.monotonic() < ends:
        storm.one_run(blows=storm.dice.randint(1, 6))

    print(f"[chaos] {dict(storm.done)}")
    report("storm: longest wait for the next item once all is up again", storm.worst)
