"""How the workers of one machine find each other: real processes, locks and directories."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pause_manager.probes.lodging import Lodging
from tests.factories_nodes import make_sample

ROOT = Path(__file__).parents[3]
CHILD = (
    "import os, sys, time\n"
    "from pause_manager.probes.lodging import Lodging\n"
    "lodging = Lodging(sys.argv[1])\n"
    "lodging.register()\n"
    "is_sampler = lodging.try_to_be_sampler()\n"
    "if sys.argv[2] == 'fork' and os.fork() == 0:\n"
    "    time.sleep(30)\n"
    "    os._exit(0)\n"
    "print(is_sampler, flush=True)\n"
    "sys.stdin.readline()\n"
)


class Neighbour:
    """Another worker of this machine."""

    def __init__(self, directory: Path, *, forks: bool = False) -> None:
        command = [sys.executable, "-c", CHILD, str(directory), "fork" if forks else ""]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, process_group=0)
        assert self.process.stdout is not None
        self.samples = self.process.stdout.readline() == "True\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def lodging(tmp_path: Path) -> Iterator[Lodging]:
    mine = Lodging(str(tmp_path))
    mine.register()
    yield mine
    mine.leave()


def test_only_one_samples_until_it_is_killed(lodging: Lodging, tmp_path: Path) -> None:
    neighbour = Neighbour(tmp_path)
    assert neighbour.samples
    assert not lodging.try_to_be_sampler()

    neighbour.close()

    assert lodging.try_to_be_sampler()


def test_what_a_killed_worker_leaves_behind_does_not_hold_the_lock(lodging: Lodging, tmp_path: Path) -> None:
    neighbour = Neighbour(tmp_path, forks=True)
    try:
        neighbour.kill()

        assert lodging.try_to_be_sampler()
    finally:
        os.killpg(neighbour.process.pid, 9)
        neighbour.close()


def test_roots_are_the_live_workers(lodging: Lodging, tmp_path: Path) -> None:
    neighbour = Neighbour(tmp_path)
    both = lodging.roots()
    neighbour.close()

    assert both == {os.getpid(), neighbour.process.pid}
    assert lodging.roots() == {os.getpid()}


def test_the_supervisor_is_a_root_only_if_it_is_above_us(tmp_path: Path) -> None:
    stranger = Neighbour(tmp_path / "other")
    try:
        above = Lodging(str(tmp_path), os.getppid())
        beside = Lodging(str(tmp_path), stranger.process.pid)

        assert os.getppid() in above.roots()
        assert stranger.process.pid not in beside.roots()
    finally:
        stranger.close()


def test_neighbours_hear_the_last_sample_while_it_is_fresh(lodging: Lodging) -> None:
    sample = make_sample()
    assert lodging.hear(within_seconds=3) is None

    lodging.tell(sample)

    assert lodging.hear(within_seconds=3) == sample
    time.sleep(0.05)
    assert lodging.hear(within_seconds=0.01) is None


def test_a_directory_that_vanishes_is_made_again(lodging: Lodging, tmp_path: Path) -> None:
    assert lodging.try_to_be_sampler()
    shutil.rmtree(tmp_path)

    lodging.register()

    assert lodging.try_to_be_sampler()
    neighbour = Neighbour(tmp_path)
    assert not neighbour.samples
    neighbour.close()
