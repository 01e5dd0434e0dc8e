"""``manage.py fleet`` as a person or a deploy script meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from automation import leases
from automation.models import WorkSlice
from pause_manager import fleet
from pause_manager.management import drain_watch
from pause_manager.management.shell import Exit
from pause_manager.models import ControlEvent
from tests.support.factories import OPERATOR, expire_leases, leased, make_run
from tests.support.workers import REPOSITORY, eventually

pytestmark = pytest.mark.django_db(transaction=True)


def keep_leases() -> None:
    """Commands take their time to start: the lease must not run out meanwhile."""
    WorkSlice.objects.leased().update(lease_expires_at="2100-01-01T00:00:00Z")


def test_pause_status_resume_and_their_exit_codes(shell):
    leased(make_run("few", items=3))
    keep_leases()

    paused = shell("fleet", "pause", "--mode", "drain", "--reason", "upgrade", "--deadline", "10m")
    wrong = shell("fleet", "pause", "--mode", "drain", "--reason", "upgrade", "--deadline", "soon")
    told = shell("fleet", "status", "--json").objects[0]
    shown = shell("fleet", "status").out
    refused = shell("fleet", "resume", "--reason", "done", "--json")
    late = shell("fleet", "pause", "--mode", "quiesce", "--reason", "hurry", "--wait", "--timeout", "1s")
    forced = shell("fleet", "resume", "--reason", "done", "--force")

    assert paused.code == 0, paused.err
    assert "Draining (drain): 1 running, 2 queued" in paused.out
    assert wrong.code == 2
    assert (told["system"]["mode"], told["metrics"]["running"]) == ("drain", 1)
    assert told["deadline"] is not None
    assert "node-1: item" in shown
    assert (refused.code, json.loads(refused.err)["error"]) == (3, "worker_pause_not_drained")
    assert late.code == 7
    assert "Draining (quiesce)" in late.out
    assert forced.code == 0
    assert "Not paused: 1 running" in forced.out
    assert shell("fleet", "resume", "--reason", "done").code == 3
    event = ControlEvent.objects.filter(scope="fleet", action="hold_placed").get()
    assert event.actor.startswith("shell:")
    assert event.channel == "cli"
    told = shell("fleet", "--help").out
    assert all(f"\n  {code}  " in told for code in (0, 1, 2, 3, 6, 7, 130))


@pytest.mark.slow
def test_waiting_ends_when_the_last_lease_is_given_back(shell):
    fleet.state()
    work = leased(make_run("few", items=3))
    keep_leases()
    process = shell.start("fleet", "pause", "--mode", "drain", "--reason", "upgrade", "--wait")
    assert process.stdout is not None
    assert "1 running" in process.stdout.readline()

    leases.release(work)

    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "Drained: safe to upgrade" in out


@pytest.mark.slow
def test_waiting_tells_a_resume_by_somebody_else(shell):
    leased(make_run("few", items=3))
    keep_leases()
    process = shell.start("fleet", "pause", "--mode", "drain", "--reason", "upgrade", "--wait")
    assert process.stdout is not None
    process.stdout.readline()

    fleet.resume(reason="no", actor=OPERATOR, force=True)

    _, err = process.communicate(timeout=60)
    assert (process.returncode, "not safe to upgrade" in err) == (3, True)


def test_waiting_is_given_up_when_only_lost_leases_are_left():
    run = make_run("few", items=3)
    leased(run)
    version = fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR).version
    expire_leases(run)
    said: list[str] = []

    code = drain_watch.wait(said.append, version=version, at_most=60, lost_seconds=0)

    assert (code, "1 of lost workers" in said[-1]) == (Exit.LOST_LEASES, True)


def test_who_waits_in_vain_is_told_what_to_do_and_can_wait_on(shell):
    run = make_run("few", items=3)
    work = leased(run)
    keep_leases()

    late = shell("fleet", "pause", "--mode", "drain", "--reason", "upgrade", "--wait", "--timeout", "1s")
    expire_leases(run)
    stuck = shell("fleet", "status")
    leases.release(work)
    waited = shell("fleet", "status", "--wait")

    assert (late.code, "`fleet status --wait` keeps waiting" in late.err) == (7, True)
    assert "its worker is lost: look on node-1" in stuck.out
    assert "They end only after the resume" in stuck.out
    assert (waited.code, "safe to upgrade" in waited.out) == (0, True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_terminal_shows_the_drain_in_place_and_lost_leases_are_told(shell):
    run = make_run("few", items=3)
    work = leased(run)
    main, terminal = os.openpty()
    command = [sys.executable, "manage.py", "fleet", "pause", "--mode", "drain", "--reason", "upgrade", "--wait"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=shell.env, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert eventually(lambda: fleet.state().is_paused)
    expire_leases(run)
    shown = b""
    while b"of lost workers" not in shown:
        shown += os.read(main, 4_096)
    leases.release(work)
    try:
        while chunk := os.read(main, 4_096):
            shown += chunk
    except OSError:
        pass
    os.close(main)

    assert process.wait(30) == 0
    assert b"\r\x1b[2KDraining" in shown
    assert "Drained: safe to upgrade" in shown.decode()
