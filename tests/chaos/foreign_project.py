"""A foreign project beside a fleet's own pipelines: same servers, same switch, and a ledger of all that it did."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.chaos.fleet import Fleet
from tests.support.foreign_project import Foreign

OPTIONS = {"prefork": ("-c", "2"), "threads": ("-P", "threads", "-c", "4")}
ENV = {
    "FOREIGN_ACKS_LATE": "1",
    "FOREIGN_REJECTS_LOST": "1",
    "FOREIGN_VISIBILITY": "20",
    "FOREIGN_POLL": "2",
    "FOREIGN_GRACE": "5",
}
BACKLOG = 40
"""Messages may not wait in a worker's hand for longer than the broker's patience: that would double them by itself."""
PATIENCE_SECONDS = 5.0
IDLE_SECONDS = 2

_HELD_STARTS = """
    SELECT ledger.key, ledger.at, hold.created_at, hold.released_at
      FROM foreign_ledger AS ledger JOIN pause_manager_hold AS hold
        ON ledger.at BETWEEN hold.created_at + interval '2 s' AND hold.released_at
     WHERE ledger.what = 'starts' AND hold.scope = 'fleet' AND hold.mode = 'drain' AND ledger.key NOT LIKE '%%/%%'
"""


class Foreigners:
    """Two workers of the foreign project, and the pieces of work that were poured into it."""

    def __init__(self, fleet: Fleet, root: Path, dice: random.Random) -> None:
        self.fleet = fleet
        self.dice = dice
        self.project = Foreign(root, {**fleet.env, **ENV})
        self.store = redis.Redis.from_url(fleet.layout.redis_url)
        self.keys: set[str] = set()
        self.bundles = 0
        self.killed: set[int] = set()
        self.starts = 0
        self.names: dict[str, str] = {}
        """By kind the worker that is there now; each has a name, and a log, of its own."""

    def open(self) -> None:
        self.fleet.execute(
            "CREATE TABLE IF NOT EXISTS foreign_ledger (id bigserial PRIMARY KEY, what text, key text, pid int, "
            "at timestamptz DEFAULT clock_timestamp())"
        )
        for kind in OPTIONS:
            self.start(kind)

    def close(self) -> None:
        self.project.close()
        self.store.close()

    def start(self, kind: str) -> None:
        self.starts += 1
        name = self.names[kind] = f"{kind}-{self.starts}"
        self.project.worker(name, *OPTIONS[kind], FOREIGN_CLIENT=name)

    def pour(self) -> None:
        """Keep some work in the queue: chords, chains, and tasks that leave at a boundary."""
        if len(self.left()) < BACKLOG:
            self.keys |= set(self.project.desk().ask("pour", self.bundles, 4))
            self.bundles += 4

    def left(self) -> set[str]:
        return self.keys - {key for (key,) in self.fleet.query("SELECT key FROM foreign_ledger WHERE what = 'done'")}

    def kill_child(self) -> bool:
        """SIGKILL to one process of the pool in the middle of a task; False if none was met there.

        Not a moment later: of a process that is lost after it has stored its result Celery takes the task for done,
        though it has not yet told the chord.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        main = psutil.Process(self.project.workers.processes[self.names["prefork"]].pid)
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error, IndexError):
                child = self.dice.choice(main.children(recursive=True))
                child.suspend()
                if self._is_at_work(child.pid):
                    self._kill(child)
                    return True
                child.resume()
            time.sleep(self.dice.uniform(0.01, 0.05))
        return False

    def _is_at_work(self, pid: int) -> bool:
        last = self.fleet.query("SELECT what FROM foreign_ledger WHERE pid = %s ORDER BY id DESC LIMIT 1", pid)
        return last == [("starts",)]

    def kill_worker(self) -> bool:
        """SIGKILL to a whole worker, with all that it works on, and another in its place; False if it was spared."""
        kind = self.dice.choice(list(OPTIONS))
        process = self.project.workers.processes[self.names[kind]]
        main = psutil.Process(process.pid)
        if not self._stop_between_messages(self.names[kind], process.pid):
            return False
        for victim in [main, *main.children(recursive=True)]:
            self._kill(victim)
        process.wait(20)
        self.start(kind)
        return True

    def restart(self) -> None:
        """SIGTERM, as a supervisor does."""
        kind = self.dice.choice(list(OPTIONS))
        self.project.workers.stop(self.names[kind])
        self.start(kind)

    def _kill(self, victim: psutil.Process) -> None:
        victim.kill()
        self.killed.add(victim.pid)

    def _stop_between_messages(self, name: str, pid: int) -> bool:
        """SIGSTOP the worker while it takes no message from Redis.

        Celery's transport takes a message from its list and notes only then that it has it. What a SIGKILL destroys in
        between is lost to any Celery app, and is no work of ours to keep.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            os.kill(pid, signal.SIGSTOP)
            takers = [one for one in self._clients(name) if one["cmd"] == "brpop"]
            if all(self._takes_no_more(one) for one in takers):
                return True
            os.kill(pid, signal.SIGCONT)
            time.sleep(self.dice.uniform(0.01, 0.05))
        return False

    def _clients(self, name: str) -> list[dict[str, Any]]:
        clients: list[dict[str, Any]] = self.store.client_list()
        return [one for one in clients if one["name"] == name]

    def _takes_no_more(self, client: dict[str, Any]) -> bool:
        # Unblocked by us, it has been given nothing; long idle, it has noted what it was given.
        return bool(self.store.client_unblock(int(client["id"]))) or int(client["idle"]) >= IDLE_SECONDS

    def unexplained(self) -> list[tuple[str, str]]:
        """Pieces started or done again although the process that had done so before was not killed.

        Nor had one been killed that had sent the second step of a chain, and not yet acknowledged the first: whoever
        did the first again has sent the second again.
        """
        pids: dict[tuple[str, str], list[int]] = defaultdict(list)
        for what, key, pid in self.fleet.query("SELECT what, key, pid FROM foreign_ledger ORDER BY id"):
            pids[what, key].append(pid)
        again = {of: by for of, by in pids.items() if len(by) > 1}
        print(f"[soak] repeated: {len(again)}")
        return [
            (what, key)
            for (what, key), by in again.items()
            if not set(by[:-1]) <= self.killed
            and not (key.endswith("-two") and len(by) <= len(pids["done", key.replace("-two", "-one")]))
        ]

    def started_while_held(self) -> list[tuple[Any, ...]]:
        """What began two seconds into a drain of the fleet, or later."""
        return self.fleet.query(_HELD_STARTS)
