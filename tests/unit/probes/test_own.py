"""Which processes are ours, and what they use: real processes, /proc as it is."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from pause_manager.probes import own_processes
from pause_manager.probes.own_processes import OwnProcesses

BURN = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"
pytestmark = pytest.mark.xdist_group("load")


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        # With its children, who have its pipe open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_tree_is_ours_with_children_born_later(spawn: Callable[..., subprocess.Popen[str]]) -> None:
    top = spawn(
        "import subprocess, sys, time\n"
        "time.sleep(0.5)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    processes = OwnProcesses()
    assert processes.read({top.pid}).pids == {top.pid}

    assert top.stdout is not None
    child = int(top.stdout.readline())

    assert processes.read({top.pid}).pids == {top.pid, child}


def test_a_child_whose_parent_died_is_still_ours(spawn: Callable[..., subprocess.Popen[str]]) -> None:
    top = spawn(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    assert top.stdout is not None
    child = int(top.stdout.readline())
    processes = OwnProcesses()
    processes.read({top.pid})
    try:
        top.send_signal(signal.SIGKILL)
        top.wait()

        assert processes.read({top.pid}).pids == {child}
    finally:
        os.kill(child, signal.SIGKILL)


def test_cpu_time_of_short_lived_children_is_counted_once(spawn: Callable[..., subprocess.Popen[str]]) -> None:
    burst = BURN.format(0.15)
    top = spawn(
        "import subprocess, sys, time\n"
        "time.sleep(0.3)\n"
        f"for _ in range(4): subprocess.run([sys.executable, '-c', {burst!r}])\n"
        "print('done', flush=True)\n"
        "time.sleep(60)"
    )
    processes = OwnProcesses()
    processes.read({top.pid})
    total = 0.0
    assert top.stdout is not None
    while not select.select([top.stdout], [], [], 0.1)[0]:
        total += processes.read({top.pid}).cpu_seconds
    total += processes.read({top.pid}).cpu_seconds

    truth = psutil.Process(top.pid).cpu_times()
    assert total == pytest.approx(truth.user + truth.system + truth.children_user + truth.children_system, abs=0.06)
    assert total > 0.6


def test_a_stranger_is_not_ours_and_one_that_joins_brings_no_past(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    stranger = spawn(BURN.format(0.5) + "\nprint('burnt', flush=True); time.sleep(60)")
    assert stranger.stdout is not None
    stranger.stdout.readline()
    processes = OwnProcesses()
    assert stranger.pid not in processes.read({os.getpid()} - {os.getpid()}).pids

    joined = processes.read({stranger.pid})

    assert joined.pids == {stranger.pid}
    assert joined.cpu_seconds < 0.1


def test_ancestors_are_told_nearest_first() -> None:
    found = own_processes.ancestors(os.getpid())

    assert found[0] == os.getppid()
    assert found == [process.pid for process in psutil.Process().parents()][: len(found)]


FORKS = """
import os, sys, time
block = bytearray(os.urandom(1 << 20) * 100)
for number in range(3):
    if not os.fork():
        if number == 0:
            sys.stdin.readline()
            grown = bytearray(os.urandom(1 << 20) * 200)
        time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""


def test_what_children_share_with_their_parent_is_counted_once_and_what_they_take_counts_at_once() -> None:
    top = subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert top.stdout is not None
        assert top.stdin is not None
        assert top.stdout.readline() == "ready\n"
        processes = OwnProcesses()
        first = processes.read({top.pid}).memory_mib
        settled = [processes.read({top.pid}).memory_mib for _ in range(4)][-1]

        assert first > 250, "two of four are looked at in one read"
        assert 95 < settled < 160, "100 MiB that all four have, and a little of each"

        top.stdin.write("grow\n")
        top.stdin.flush()
        deadline = time.monotonic() + 20
        while (grown := processes.read({top.pid}).memory_mib) < settled + 190 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert settled + 190 <= grown < settled + 260
    finally:
        os.killpg(top.pid, signal.SIGKILL)
        top.communicate()
