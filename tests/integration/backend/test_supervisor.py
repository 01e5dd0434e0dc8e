"""The supervisor, with small real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from backend.supervision import supervisor as module
from backend.supervision.supervisor import Backoff, Supervisor

OBEDIENT = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
)
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); {OBEDIENT}"
BRIEF = "print('done')"


@pytest.fixture
def supervisor(tmp_path: Path):
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield Supervisor([], tmp_path)
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


def run(supervisor: Supervisor, script: str, until: Callable[[], bool], *, signals: int = 1) -> None:
    """Supervise one Python ``script`` until ``until``, then signal this process as Ctrl-C would."""
    supervisor.add("one", [sys.executable, "-c", script], os.environ)

    def interrupt() -> None:
        eventually(until)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    thread = threading.Thread(target=interrupt)
    thread.start()
    supervisor.run(lambda: "", lambda: None)
    thread.join()


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def printed_here(log_dir: Path, times: int = 1) -> bool:
    log = log_dir / "one.log"
    return log.exists() and log.read_text().count("here") >= times


def test_a_child_that_will_not_stop_is_ended_when_its_time_is_up(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 1.0)
    started = time.monotonic()

    run(supervisor, STUBBORN, lambda: printed_here(tmp_path))

    assert supervisor.children[0].process.returncode == -signal.SIGKILL
    assert 1 <= time.monotonic() - started < 10


def test_a_second_signal_ends_it_at_once(supervisor, tmp_path):
    started = time.monotonic()

    run(supervisor, STUBBORN, lambda: printed_here(tmp_path), signals=2)

    assert supervisor.children[0].process.returncode == -signal.SIGKILL
    assert time.monotonic() - started < module.GRACE_SECONDS / 2


def test_only_the_leader_is_asked_to_stop_and_nothing_is_left(supervisor, tmp_path):
    family: list[psutil.Process] = []

    def family_is_there() -> bool:
        if not printed_here(tmp_path, times=2):
            return False
        family.extend(psutil.Process(supervisor.children[0].process.pid).children(recursive=True))
        return True

    run(supervisor, PARENT, family_is_there)

    assert supervisor.children[0].process.returncode == -signal.SIGTERM
    assert len(family) == 1
    assert eventually(lambda: all(is_gone(process) for process in family))


def test_what_a_killed_child_left_behind_is_ended(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ORPHAN_SECONDS", 0.5)
    orphans: list[psutil.Process] = []

    def orphans_are_gone() -> bool:
        if not orphans and printed_here(tmp_path, times=2):
            leader = psutil.Process(supervisor.children[0].process.pid)
            orphans.extend(leader.children())
            leader.kill()
        return bool(orphans) and all(is_gone(process) for process in orphans)

    run(supervisor, PARENT, orphans_are_gone)

    assert orphans
    assert orphans_are_gone()


def test_what_ends_by_itself_is_started_again_ever_more_slowly(supervisor, tmp_path):
    run(supervisor, BRIEF, lambda: supervisor.children[0].backoff.failures >= 2)

    printed = (tmp_path / "system.log").read_text()
    assert "one ended with exit code 0; restarting it now" in printed
    assert "one ended with exit code 0; restarting it in 1 s" in printed


def test_back_off_grows_to_a_limit_and_starts_over_after_health():
    backoff = Backoff()

    assert [backoff.failed(ran_seconds=0) for _ in range(7)] == [0, 1, 2, 4, 8, 15, 15]
    assert backoff.failed(ran_seconds=60) == 0


@pytest.mark.slow
def test_what_had_become_ready_is_started_again_soon_however_often_it_is_killed(supervisor, tmp_path):
    told = tmp_path / "told"
    ready = f"""
import os, signal, socket, sys
name = os.environ["NOTIFY_SOCKET"]
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", chr(0) + name[1:])
open({str(told)!r}, "a").write("x")
os.kill(os.getpid(), signal.SIGKILL)
"""
    began = time.monotonic()

    run(supervisor, ready, lambda: told.exists() and len(told.read_text()) >= 6)

    assert time.monotonic() - began < 10, "0, 1, 2, 4 and 8 seconds are 15"
    assert "restarting it in 0.5 s" in (tmp_path / "system.log").read_text()


def test_nothing_is_started_after_a_signal(supervisor):
    supervisor.install_signals()
    os.kill(os.getpid(), signal.SIGTERM)

    run(supervisor, OBEDIENT, lambda: True)

    assert supervisor.children[0].process is None
