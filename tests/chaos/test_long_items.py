"""Workers die while an item is long, or gives very much: it goes on from what it committed, and nothing is doubled."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time

import pytest

from tests.chaos.fleet import Fleet, eventually, ledger_of
from tests.chaos.ledger import Ledger, Note

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]

OUTPUTS = """
    SELECT item.key, item.payload FROM automation_workitem AS item
      JOIN automation_stagerun AS stage ON stage.id = item.made_by_id
     WHERE stage.run_id = %s AND stage.position = 0 ORDER BY item.key COLLATE "C"
"""
COUNTS = """
    SELECT count(*), count(DISTINCT item.payload->>'n'), min((item.payload->>'n')::int), max((item.payload->>'n')::int)
      FROM automation_workitem AS item JOIN automation_stagerun AS stage ON stage.id = item.made_by_id
     WHERE stage.run_id = %s AND stage.position = 0
"""
LEFT = "SELECT (SELECT count(*) FROM automation_itemstate) + (SELECT count(*) FROM automation_itemchunk)"
LOST = "SELECT count(*) FROM pause_manager_controlevent WHERE scope = %s AND action = 'worker_lost'"


def start(fleet: Fleet, pipeline: str, **params: object) -> tuple[str, Ledger]:
    ledger = ledger_of(fleet)
    made = fleet.ask("create", pipeline=pipeline, params={"ledger": str(ledger.path), **params})
    return str(made["id"]), ledger


def epochs(ledger: Ledger) -> dict[str, list[int]]:
    """What each item did, in order."""
    found: dict[str, list[int]] = {}
    for note in ledger.notes():
        if note.what.startswith("epoch-"):
            found.setdefault(note.key, []).append(int(note.what[6:]))
    return found


def status(fleet: Fleet, run: str) -> str:
    return str(fleet.ask("look", run=run)["status"])


def kill_at(ledger: Ledger, epoch: int) -> Note:
    """SIGKILL a process that is at ``epoch`` of an item, or beyond."""

    def found() -> Note | None:
        last = {note.pid: note for note in ledger.notes()}
        at = (note for note in last.values() if note.what.startswith("epoch-") and int(note.what[6:]) >= epoch)
        return next(at, None)

    while (note := eventually(found, 30, every=0.01)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(note.pid, signal.SIGKILL)
            return note
    raise AssertionError("no process is so far")


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["long-items", "long-async"])
def test_epochs_before_the_last_checkpoint_are_not_repeated(fleet: Fleet, pipeline: str):
    run, ledger = start(fleet, pipeline, items=4, epochs=25)

    first = kill_at(ledger, 5)
    kill_at(ledger, 15)
    fleet.kill("stages")
    fleet.start("stages")
    assert eventually(lambda: status(fleet, run) == "completed", 120), fleet.ask("look", run=run)

    done = epochs(ledger)
    assert len(done) == 4
    for steps in done.values():
        assert all(after - before in (0, 1) for before, after in itertools.pairwise(steps)), steps
        assert sorted(set(steps)) == list(range(25))
        assert len(steps) <= 25 + 3
    assert max(done[first.key].count(epoch) for epoch in range(25)) >= 1
    made = [(payload["n"], payload["epoch"]) for _, payload in fleet.query(OUTPUTS, run)]
    assert made == [(n, epoch) for n in range(4) for epoch in range(25)]
    assert eventually(lambda: fleet.query(LEFT) == [(0,)], 15)


@pytest.mark.slow
def test_an_async_item_that_blocks_the_event_loop_fails_and_the_others_go_on(fleet: Fleet):
    run, _ = start(fleet, "long-async", items=4, epochs=10, hang=2)

    assert eventually(lambda: status(fleet, run) == "completed_with_failures", 90), fleet.ask("look", run=run)

    failed = (
        "SELECT failure.payload->>'n', failure.error FROM automation_itemfailure AS failure "
        "JOIN automation_stagerun AS stage ON stage.id = failure.stage_run_id WHERE stage.run_id = %s"
    )
    assert fleet.query(failed, run) == [("2", "TookTooLong: took longer than item_timeout = 4 s")]
    made = [(payload["n"], payload["epoch"]) for _, payload in fleet.query(OUTPUTS, run)]
    assert made == [(n, epoch) for n in (0, 1, 3) for epoch in range(10)]


@pytest.mark.slow
def test_a_pause_does_not_wait_for_the_end_of_a_long_item(fleet: Fleet, report):
    run, ledger = start(fleet, "long-items", items=2, epochs=1_000, seconds=0.05)
    assert eventually(lambda: any(len(steps) > 5 for steps in epochs(ledger).values()), 30)

    asked = time.monotonic()
    fleet.ask("pause", run=run)
    assert eventually(lambda: status(fleet, run) == "paused", 10)
    seconds = time.monotonic() - asked
    report("a long item is paused after", seconds)
    stopped_at = {key: steps[-1] for key, steps in epochs(ledger).items()}
    fleet.ask("resume", run=run)
    assert eventually(lambda: any(epochs(ledger)[key][-1] > last + 5 for key, last in stopped_at.items()), 30)
    fleet.ask("cancel", run=run)

    assert seconds < 3
    for steps in epochs(ledger).values():
        assert all(after - before == 1 for before, after in itertools.pairwise(steps))
    assert eventually(lambda: status(fleet, run) == "cancelled", 10)
    assert eventually(lambda: fleet.query(LEFT) == [(0,)], 15)


@pytest.mark.slow
def test_an_item_with_600_000_outputs_fills_no_memory_and_is_there_once(fleet: Fleet, report):
    run, ledger = start(fleet, "many-outputs", items=1, count=600_000)
    half = eventually(lambda: [note for note in ledger.notes() if note.what == "half"], 60, every=0.01)
    os.kill(half[0].pid, signal.SIGKILL)
    assert fleet.query(COUNTS, run)[0][0] == 0

    assert eventually(lambda: status(fleet, run) == "completed", 180), fleet.ask("look", run=run)

    assert fleet.query(COUNTS, run) == [(600_000, 600_000, 0, 599_999)]
    assert fleet.query(LOST, f"run:{run}") == [(1,)]
    grown = [int(note.what[6:]) for note in ledger.notes() if note.what.startswith("grown-")]
    report("600,000 outputs: MiB of memory", max(grown) / 1024)
    assert max(grown) < 64 * 1024
    assert fleet.query(LEFT) == [(0,)]
