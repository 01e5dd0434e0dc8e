"""A foreign project under random toggles of the fleet, kills and restarts: all of it is done, once each by its ledger.

``SOAK_MINUTES`` (default 2) says for how long.
"""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from django.db import connection

if TYPE_CHECKING:
    from tests.integration.pausable.project import Foreign

MINUTES = float(os.environ.get("SOAK_MINUTES", "2"))
VISIBILITY_SECONDS = 20
WORKERS = {"prefork": ("-c", "2"), "threads": ("-P", "threads", "-c", "4")}
ENV = {
    "FOREIGN_ACKS_LATE": "1",
    "FOREIGN_REJECTS_LOST": "1",
    "FOREIGN_VISIBILITY": str(VISIBILITY_SECONDS),
    "FOREIGN_POLL": "2",
    "FOREIGN_GRACE": "5",
}
BACKLOG = 40
"""Messages may not wait in a worker's hand for longer than the broker's patience: that would double them by itself."""

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.timeout(MINUTES * 60 + 400),
]


@pytest.fixture
def foreign(process_env: dict[str, str], tmp_path: Path) -> Iterator[Foreign]:
    from tests.integration.pausable.project import Foreign

    project = Foreign(tmp_path, {**process_env, **ENV})
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE foreign_ledger (id bigserial PRIMARY KEY, what text, key text, pid int, "
            "at timestamptz DEFAULT clock_timestamp())"
        )
    try:
        yield project
    finally:
        project.close()
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE foreign_ledger")


def ask(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def left(keys: set[str]) -> set[str]:
    return keys - {key for (key,) in ask("SELECT key FROM foreign_ledger WHERE what = 'done'")}


class Chaos:
    """What happens to the fleet, by the dice."""

    def __init__(self, foreign: Foreign, dice: random.Random) -> None:
        self.foreign = foreign
        self.dice = dice
        self.killed: set[int] = set()
        self.kills = 0
        self.toggles = 0

    def toggle(self) -> None:
        from tests.integration.pausable.project import hold, release

        hold(mode=self.dice.choice(["drain", "quiesce"]))
        time.sleep(self.dice.uniform(0.2, 4))
        if self.dice.random() < 0.4:
            self.kill()
        release()
        self.toggles += 1

    def kill(self) -> None:
        """SIGKILL to a whole worker, or to one child of a pool."""
        name = self.dice.choice(list(WORKERS))
        process = self.foreign.workers.processes[name]
        main = psutil.Process(process.pid)
        children = main.children(recursive=True)
        if name == "prefork" and children and self.dice.random() < 0.4:
            victims = [self.dice.choice(children)]
        else:
            victims = [main, *children]
        for victim in victims:
            victim.kill()
        self.killed |= {victim.pid for victim in victims}
        self.kills += 1
        if main in victims:
            process.wait(20)
            self.foreign.worker(name, *WORKERS[name])


def test_every_task_of_a_foreign_app_runs_once(foreign: Foreign, seed: int):
    from tests.integration.pausable.project import release

    for name, options in WORKERS.items():
        foreign.worker(name, *options)
    beat = ("-Q", "control", "-P", "threads", "-c", "2", "-B", "-s", str(foreign.root / "beat"))
    foreign.workers.start("control", *beat)
    chaos = Chaos(foreign, random.Random(seed))
    keys: set[str] = set()
    bundle = 0
    end = time.monotonic() + MINUTES * 60

    while time.monotonic() < end:
        if len(left(keys)) < BACKLOG:
            keys |= set(foreign.desk().ask("pour", bundle, 4))
            bundle += 4
        what = chaos.dice.random()
        if what < 0.3:
            chaos.toggle()
        elif what < 0.4:
            chaos.kill()
        time.sleep(chaos.dice.uniform(0, 0.5))
    release()

    deadline = time.monotonic() + 240
    while left(keys) and time.monotonic() < deadline:
        time.sleep(1)
    print(f"[soak] {len(keys)} pieces of work, {chaos.toggles} toggles, {chaos.kills} kills")
    assert left(keys) == set(), "nothing is lost"
    repeats = unexplained(chaos.killed)
    assert repeats == [], "nothing ran twice but what a kill cut off"
    assert started_while_held() == []


def unexplained(killed: set[int]) -> list[tuple[str, str]]:
    """Pieces that were started or done again although the process that had done so before was not killed."""
    pids: dict[tuple[str, str], list[int]] = defaultdict(list)
    for what, key, pid in ask("SELECT what, key, pid FROM foreign_ledger ORDER BY id"):
        pids[what, key].append(pid)
    again = {of: by for of, by in pids.items() if len(by) > 1}
    print(f"[soak] repeated: {len(again)}")
    return [of for of, by in again.items() if not set(by[:-1]) <= killed]


def started_while_held() -> list[tuple[Any, ...]]:
    """What began two seconds into a hold, or later."""
    return ask(
        "SELECT ledger.key, ledger.at, hold.created_at, hold.released_at "
        "FROM foreign_ledger AS ledger JOIN pause_manager_hold AS hold "
        "ON ledger.at BETWEEN hold.created_at + interval '2 s' AND hold.released_at "
        "WHERE ledger.what = 'starts' AND hold.mode = 'drain' AND ledger.key NOT LIKE '%%/%%'"
    )
