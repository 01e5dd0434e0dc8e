"""Real load on this machine makes a real run give way, and it goes on by itself when the load is gone.

What else this machine does counts as a stranger too, so these tests need it to themselves (``-m quiet``).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.system import System, eventually, launch, unused_port

pytestmark = [pytest.mark.quiet, pytest.mark.slow, pytest.mark.timeout(400)]

CORES = len(os.sched_getaffinity(0))
RUNS = "automation/runs/"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="sw-quiet-") as directory:
        running = launch(
            Path(directory) / "data", port=unused_port(), concurrency=CORES, PAUSE_POLLING_INTERVAL_SECONDS="2"
        )
        try:
            assert eventually(lambda: "ready: " in running.printed), running.printed
            yield running
        finally:
            running.process.terminate()
            running.process.wait(60)


@contextmanager
def strangers(count: int) -> Iterator[None]:
    """Processes that are none of ours and burn a core each."""
    burn = [sys.executable, "-c", "while True: pass"]
    burning = [subprocess.Popen(burn, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.send_signal(signal.SIGKILL)
            process.wait()


def of(system: System, run_id: str) -> Any:
    return system.call(f"{RUNS}{run_id}/")


def has_room(system: System) -> bool:
    """Whether a run would start now: a machine that has just been somebody else's takes its time."""
    seen = system.call("capacity/")
    verdicts = [verdict["should_pause"] for verdict in seen["verdicts"] if verdict["pipeline"] == "drill"]
    return bool(verdicts) and not any(verdicts) and all(node["is_consuming"] for node in seen["nodes"])


def processed(system: System, run_id: str) -> int:
    return int(system.call(f"{RUNS}{run_id}/progress/")["overall"]["processed_items"])


def actions(system: System, run_id: str) -> dict[str, dict[str, Any]]:
    """The events of the run by action; of several the oldest."""
    return {event["action"]: event for event in system.call(f"{RUNS}{run_id}/events/?limit=100")["results"]}


@pytest.mark.req("P-13", "P-19", "P-36")
def test_a_run_gives_way_to_strangers_and_goes_on_when_they_are_gone(system: System):
    assert eventually(lambda: has_room(system))
    items = 40 * CORES
    params = {"items": items, "seconds": 0.5}
    run_id = system.call(RUNS, {"pipeline": "drill", "site": "default", "params": params})["id"]
    assert eventually(lambda: processed(system, run_id) > 4)
    assert of(system, run_id)["status"] == "running"

    with strangers(2 * CORES):
        assert eventually(lambda: of(system, run_id)["status"] == "paused", 60), actions(system, run_id)
        [reason] = system.call(f"{RUNS}{run_id}/explain/")["reasons"]
        assert (reason["code"], f" of {CORES} cores free" in reason["sentence"]) == ("capacity", True), reason
        [entry] = system.call("pause-queue/")["results"]
        assert (entry["ref"], "cores" in entry["reason"]) == (f"run:{run_id}", True)
        done = processed(system, run_id)
        time.sleep(3)
        assert processed(system, run_id) == done, "nothing of a paused run is at work"

    assert eventually(lambda: of(system, run_id)["status"] == "running", 90), actions(system, run_id)
    assert eventually(lambda: of(system, run_id)["status"] == "completed", 180)
    progress = system.call(f"{RUNS}{run_id}/progress/")["overall"]
    assert (progress["processed_items"], progress["failed_items"]) == (items, 0)
    told = actions(system, run_id)
    assert told["parked"]["figures"]["online"] == 1
    assert told["sent_on"]["actor"] == "capacity"


@pytest.mark.req("P-26")
def test_a_run_that_is_forced_on_goes_on_among_strangers(system: System):
    """Also where the only node takes no new work any more, and its workers no messages."""
    items = 8 * CORES
    params = {"items": items, "seconds": 0.5}
    with strangers(2 * CORES):
        assert eventually(lambda: not system.call("capacity/")["nodes"][0]["is_consuming"], 60)
        run_id = system.call(RUNS, {"pipeline": "drill", "site": "default", "params": params})["id"]
        [entry] = system.call("pause-queue/")["results"]
        assert entry["ref"] == f"run:{run_id}"
        time.sleep(6)
        assert processed(system, run_id) == 0

        system.call(f"pause-queue/{entry['id']}/force-resume/", {"reason": "the demo is now"})

        assert eventually(lambda: of(system, run_id)["status"] == "completed", 120), actions(system, run_id)
        assert not system.call("capacity/")["nodes"][0]["is_consuming"], "the strangers are still there"
    assert not {"stopped"} & set(actions(system, run_id)), "it gave way to nobody"


def test_own_load_pauses_nothing(system: System):
    """Loops that burn every core they declared are no strangers to themselves."""
    assert eventually(lambda: has_room(system))
    params = {"items": 20 * CORES, "seconds": 0.5, "mode": "burn"}

    run_id = system.call(RUNS, {"pipeline": "drill", "site": "default", "params": params})["id"]

    assert eventually(lambda: of(system, run_id)["status"] == "completed", 120), actions(system, run_id)
    told = actions(system, run_id)
    assert not {"parked", "stopped"} & set(told), json.dumps([told.get("parked"), told.get("stopped")])
