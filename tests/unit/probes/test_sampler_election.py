"""How the workers of one machine find each other: real processes, locks and directories."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pause_manager.probes import processes
from pause_manager.probes.sampler_election import SamplerElection, UnsafeDirectory, default_directory
from tests.support.node_factories import make_sample

ROOT = Path(__file__).parents[3]
CHILD = (
    "import os, sys, time\n"
    "from pause_manager.probes.sampler_election import SamplerElection\n"
    "election = SamplerElection(sys.argv[1])\n"
    "election.register()\n"
    "is_sampler = election.try_to_be_sampler()\n"
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


@pytest.fixture(autouse=True)
def _chosen_anew() -> Iterator[None]:
    default_directory.cache_clear()
    yield
    default_directory.cache_clear()


@pytest.fixture
def election(tmp_path: Path) -> Iterator[SamplerElection]:
    mine = SamplerElection(str(tmp_path))
    mine.register()
    yield mine
    mine.leave()


def test_only_one_samples_until_it_is_killed(election: SamplerElection, tmp_path: Path) -> None:
    neighbour = Neighbour(tmp_path)
    assert neighbour.samples
    assert not election.try_to_be_sampler()

    neighbour.close()

    assert election.try_to_be_sampler()


def test_what_a_killed_worker_leaves_behind_does_not_hold_the_lock(election: SamplerElection, tmp_path: Path) -> None:
    neighbour = Neighbour(tmp_path, forks=True)
    try:
        neighbour.kill()

        assert election.try_to_be_sampler()
    finally:
        os.killpg(neighbour.process.pid, 9)
        neighbour.close()


def test_roots_are_the_live_workers(election: SamplerElection, tmp_path: Path) -> None:
    neighbour = Neighbour(tmp_path)
    both = election.roots()
    neighbour.close()

    assert both == {os.getpid(), neighbour.process.pid}
    assert election.roots() == {os.getpid()}


def test_the_supervisor_is_a_root_only_if_it_is_above_us(tmp_path: Path) -> None:
    stranger = Neighbour(tmp_path / "other")
    try:
        above = SamplerElection(str(tmp_path), os.getppid())
        beside = SamplerElection(str(tmp_path), stranger.process.pid)

        assert os.getppid() in above.roots()
        assert stranger.process.pid not in beside.roots()
    finally:
        stranger.close()


def test_neighbours_hear_the_last_sample_while_it_is_fresh(election: SamplerElection) -> None:
    sample = make_sample()
    assert election.hear(within_seconds=3) is None

    election.tell(sample)

    assert election.hear(within_seconds=3) == sample
    time.sleep(0.05)
    assert election.hear(within_seconds=0.01) is None


def test_a_directory_that_vanishes_is_made_again(election: SamplerElection, tmp_path: Path) -> None:
    assert election.try_to_be_sampler()
    shutil.rmtree(tmp_path)

    election.register()

    assert election.try_to_be_sampler()
    neighbour = Neighbour(tmp_path)
    assert not neighbour.samples
    neighbour.close()


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")


@ROOT_ONLY
@pytest.mark.parametrize("whose", ["", processes.container_name(), f"{processes.container_name()}/workers"])
def test_a_directory_of_somebody_else_is_an_error_that_names_it(
    whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever planted ``workers/1`` there would make every process of the machine ours."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    planted = default_directory() / whose
    planted.mkdir(parents=True)
    os.chown(planted, 65534, 65534)

    with pytest.raises(UnsafeDirectory, match=f"Cannot use {re.escape(str(planted))}: it belongs to .* 65534"):
        SamplerElection().register()


def test_a_link_in_the_place_of_the_directory_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    default_directory().symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UnsafeDirectory, match="it is not a directory"):
        SamplerElection().register()


def test_a_directory_that_others_may_write_to_is_closed_to_them(tmp_path: Path) -> None:
    here = tmp_path / processes.container_name()
    here.mkdir()
    here.chmod(0o777)

    SamplerElection(str(tmp_path)).register()

    assert here.stat().st_mode & 0o777 == 0o700


def test_a_planted_link_overwrites_nothing(election: SamplerElection, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    here = tmp_path / processes.container_name()
    (here / f".sample.json.{os.getpid()}").symlink_to(victim)
    (here / "sample.json").symlink_to(victim)
    (here / "sampler.lock").unlink(missing_ok=True)
    (here / "sampler.lock").symlink_to(victim)

    assert election.hear(within_seconds=60) is None
    election.tell(make_sample())

    with pytest.raises(OSError, match="symbolic"):
        election.try_to_be_sampler()
    assert victim.read_text() == "precious"
    assert election.hear(within_seconds=60) is not None


def test_the_directory_of_the_login_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    assert default_directory() == tmp_path / "slackwater"

    tmp_path.chmod(0o777)
    default_directory.cache_clear()
    assert default_directory().parent != tmp_path, "anybody may make one there"


ALONE = """
import os
from pause_manager.probes import processes
from pause_manager.probes.sampler_election import SamplerElection, default_directory
os.setuid(65534)
before = processes.container()
SamplerElection("").register()
child = os.fork()
if not child:
    os._exit(not (default_directory().is_dir() and processes.container() != before))
assert os.waitpid(child, 0)[1] == 0, "a child is of the same container"
print(default_directory(), processes.container(), oct(default_directory().stat().st_mode & 0o777))
SamplerElection("").leave()
assert not default_directory().exists()
"""


@ROOT_ONLY
def test_without_a_directory_of_its_own_a_worker_is_a_container_of_its_own_under_a_name_nobody_foresees() -> None:
    env = {name: value for name, value in os.environ.items() if name not in {"XDG_RUNTIME_DIR", "TMPDIR"}}

    def run() -> list[str]:
        root = Path(__file__).resolve().parents[3]
        done = subprocess.run(
            [sys.executable, "-c", ALONE], cwd=root, env=env, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    (one, here, mode), (other, there, _) = run(), run()

    assert mode == "0o700"
    assert Path(one).name.startswith("slackwater-")
    assert one != other
    assert here != there


def test_what_containers_that_are_gone_have_left_is_swept(election: SamplerElection, tmp_path: Path) -> None:
    for name in ("gone~1-boot-pid-1", "lives~1-boot-pid-2", "not-ours"):
        (tmp_path / name).mkdir()
        if name != "not-ours":
            (tmp_path / name / "sampler.lock").touch()
    for name in ("gone~1-boot-pid-1", "not-ours"):
        os.utime(tmp_path / name, (0, 0))

    assert election.try_to_be_sampler()

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["lives~1-boot-pid-2", "not-ours", processes.container_name()]
    )
