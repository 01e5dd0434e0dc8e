"""One run of the ``chaos`` pipeline on a fleet, and the proof that nothing of it was lost or doubled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import Any

from tests.chaos.expected_outputs import FAN, expected
from tests.chaos.fleet import Fleet, eventually, ledger_of
from tests.chaos.ledger import Note

SURVIVAL_SECONDS = 20.0
"""Within this a run must have gone on by itself after any crash."""

_OUTPUTS = """
    SELECT stage.slug, item.key, item.payload::text
      FROM automation_workitem AS item JOIN automation_stagerun AS stage ON stage.id = item.made_by_id
     WHERE stage.run_id = %s AND stage.position >= 0 ORDER BY stage.position, item.key COLLATE "C"
"""
_SLICES = """
    SELECT stage.slug, stage.total_items, sum(slice.processed)::int, sum(slice.failed)::int,
           count(*) FILTER (WHERE slice.finished_at IS NULL), count(slice.lease_token)
      FROM automation_stagerun AS stage JOIN automation_workslice AS slice ON slice.stage_run_id = stage.id
     WHERE stage.run_id = %s GROUP BY stage.id ORDER BY stage.position
"""


class Run:
    """Created (and started) on ``fleet`` when made."""

    def __init__(
        self, fleet: Fleet, *, items: int = 30, seconds: float = 0.08, poison: int = -1, start: bool = True
    ) -> None:
        self.fleet = fleet
        self.items = items
        self.poison = poison
        self.ledger = ledger_of(fleet)
        params = {"ledger": str(self.ledger.path), "items": items, "seconds": seconds, "poison": poison}
        self.id: str = fleet.ask("create", params=params, start=start)["id"]
        self.created = time.time()

    def ask(self, verb: str) -> dict[str, Any]:
        return self.fleet.ask(verb, run=self.id)

    def try_to(self, verb: str) -> dict[str, Any]:
        return self.fleet.try_to(verb, run=self.id)

    @property
    def status(self) -> str:
        return str(self.ask("look")["status"])

    def leases(self) -> int:
        (row,) = self.fleet.query(
            "SELECT count(slice.lease_token) FROM automation_workslice AS slice "
            "JOIN automation_stagerun AS stage ON stage.id = slice.stage_run_id WHERE stage.run_id = %s",
            self.id,
        )
        return int(row[0])

    def events(self, action: str) -> list[str]:
        """The reasons of this run's events of one kind."""
        return [why for did, why in self.fleet.query(_EVENTS, f"run:{self.id}") if did == action]

    def tickets(self) -> int:
        return len(self.fleet.query(_TICKETS, self.id))

    def open_slices(self) -> int:
        return sum(row[4] for row in self.fleet.query(_SLICES, self.id))

    def active_holds(self) -> int:
        held = "SELECT 1 FROM pause_manager_hold WHERE released_at IS NULL AND scope = %s"
        return len(self.fleet.query(held, f"run:{self.id}"))

    def failures(self) -> list[tuple[Any, ...]]:
        """(key, error, attempts) of the items that were given up."""
        return self.fleet.query(_FAILURES, self.id)

    def wait_for(self, *statuses: str, seconds: float = 90) -> str:
        """Wait until the status is one of ``statuses``; polls the database, then asks as everybody does."""
        met = eventually(lambda: (now := self.try_to("look").get("status")) in statuses and now, seconds, every=0.1)
        assert met, f"expected {statuses}, got: {self.try_to('look')}"
        return str(met)

    def wait_until_at(self, stage: str = "toil", after: int = 5, seconds: float = 60) -> None:
        """Wait until ``after`` items of ``stage`` have been started."""
        assert eventually(lambda: len(self.ledger.starts(stage)) >= after, seconds, every=0.01), self.try_to("look")

    def kill_mid_item(self, stage: str = "toil") -> tuple[Note, float]:
        """SIGKILL a process in the middle of an item: (the attempt that was lost, when)."""
        for _ in range(20):
            at_work = eventually(lambda: self.ledger.at_work(stage), 20, every=0.005)
            assert at_work, f"nothing is at work: {self.try_to('look')}"
            pid = at_work[0].pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                moment = time.time()
                time.sleep(0.05)
                last = self.ledger.last_of(pid)
                assert last is not None
                if last.what == "start":
                    return last, moment
        raise AssertionError("no process was caught in the middle of an item")

    def goes_on(self, since: float, seconds: float) -> float:
        """Seconds from ``since`` to the next start of an item, or an ``AssertionError`` when there is none."""
        met = eventually(lambda: self.ledger.starts_after(since), seconds)
        assert met, f"nothing started for {seconds} s: {self.try_to('look')}"
        return met[0].at - since

    def outputs(self) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        found: dict[str, list[tuple[str, dict[str, Any]]]] = {"fan": [], "toil": [], "fold": []}
        for slug, key, payload in self.fleet.query(_OUTPUTS, self.id):
            found[slug].append((key, json.loads(payload)))
        return found

    def check_complete(self, *, failed: int = 0) -> None:
        """Wait for the end, then prove it: outputs, counts, leases, status, events."""
        expected_status = "completed_with_failures" if failed else "completed"
        assert self.wait_for(expected_status, "completed", "failed", "cancelled") == expected_status
        made = self.outputs()
        assert {slug: [payload for _, payload in rows] for slug, rows in made.items()} == expected(
            self.items, self.poison
        )
        assert all(len({key for key, _ in rows}) == len(rows) for rows in made.values())
        self.check_counts(failed=failed)
        attempted = {note.item for note in self.ledger.starts("toil")}
        assert len(attempted) == FAN * self.items
        events = [action for action, _ in self.fleet.query(_EVENTS, f"run:{self.id}")]
        once = ["create", "start", "complete", *["stage_completed"] * 3, *["stage_started"] * 3]
        assert sorted(action for action in events if action in set(once)) == sorted(once)
        gone = eventually(lambda: not self.tickets(), 30)
        assert gone, "tickets are left of a completed run"

    def check_counts(self, *, failed: int) -> None:
        rows = self.fleet.query(_SLICES, self.id)
        for slug, total, processed, failures, unfinished, leased in rows:
            wrong = failed if slug == "toil" else 0
            assert (processed, failures, unfinished, leased) == (total - wrong, wrong, 0, 0), (slug, rows)
        assert len(self.failures()) == failed
        overall = self.ask("look")["overall"]
        assert overall["percentage"] == 100
        assert overall["processed_items"] + overall["failed_items"] == overall["total_items"] == self.items
        assert overall["remaining_count"] == 0


_EVENTS = "SELECT action, reason FROM pause_manager_controlevent WHERE scope = %s"
_TICKETS = """
    SELECT ticket.id FROM automation_ticket AS ticket
      JOIN automation_stagerun AS stage ON stage.id = ticket.stage_run_id WHERE stage.run_id = %s
"""
_FAILURES = """
    SELECT failure.key, failure.error, failure.attempts FROM automation_itemfailure AS failure
      JOIN automation_stagerun AS stage ON stage.id = failure.stage_run_id WHERE stage.run_id = %s
"""
