"""Who is dead: a wrong answer ends the lease of a worker that lives, and in the end gives up sound items."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pause_manager.probes import processes

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ASK = "from pause_manager.probes import processes; print(processes.identity(), flush=True); input()"
REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_process_is_alive_until_it_has_ended():
    other = subprocess.Popen(
        [sys.executable, "-c", ASK], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    owner = f"{other.stdout.readline().strip()}/0b5e5b3e-task"

    alive = processes.is_dead(owner)
    other.kill()
    while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)

    assert alive is False
    assert processes.is_dead(owner) is True, "its parent has not gathered it yet"
    other.communicate()
    assert processes.is_dead(owner) is True


@ONLY_LINUX
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounts over /proc")
def test_what_proc_hides_from_another_user_is_alive_until_the_kernel_says_otherwise():
    """As under ``hidepid=2``, or ``ProtectProc=invisible`` of systemd."""
    other = subprocess.Popen(
        [sys.executable, "-c", ASK], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    owner = other.stdout.readline().strip()
    ask = f"""
import os
from pathlib import Path
from pause_manager.probes import processes
os.setuid(65534)
print(Path("/proc/{other.pid}/stat").exists(), processes.is_here({owner!r}), processes.is_dead({owner!r}))
"""
    hide = f'[ ! -d /proc/{other.pid} ] || mount -t tmpfs none /proc/{other.pid} && exec {sys.executable} -c "$0"'

    def asked() -> str:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", hide, ask], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if "mount:" in done.stderr:
            pytest.skip("may not mount /proc here")
        return done.stdout.strip() or done.stderr

    alive = asked()
    other.kill()
    other.communicate()

    assert alive == "False True False", "hidden, of this machine, and not dead"
    assert asked() == "False True True"


def test_a_process_id_that_was_given_to_another_is_dead():
    identity = processes.identity()
    place, pid, started = identity.rsplit("/", 2)

    assert processes.is_dead(identity) is False
    assert processes.is_dead(f"{place}/{pid}/{float(started) - 5:g}") is True


@ONLY_LINUX
def test_a_step_of_the_clock_kills_nobody(monkeypatch):
    """The boot time as told in wall-clock time moves with the clock; a worker noted it before, the reaper after."""
    owner = processes.identity()

    moved = psutil.boot_time() + 3600
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: moved)

    assert processes.is_dead(owner) is False


@ONLY_LINUX
def test_another_machine_of_the_same_name_is_not_judged():
    """Every machine's first namespace has the same number, and cloned machines share their host name."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    owner = processes.identity()
    place, _, _ = owner.rsplit("/", 2)

    assert boot_id[:8] in owner
    assert processes.is_dead(f"{place.replace(boot_id[:8], '00000000')}/999999999/1.00") is False
    assert processes.is_dead(f"{place}/999999999/1.00") is True


def test_what_is_no_identity_is_not_dead():
    assert processes.is_dead("") is False
    assert processes.is_dead("somebody") is False
    place = processes.identity().rsplit("/", 2)[0]
    for pid in ("x", "0", "-1", "", "9" * 30):
        assert processes.is_dead(f"{place}/{pid}/1") is False


def test_people_are_told_the_node_and_the_process():
    mine = processes.identity()

    assert processes.pid_of(mine) == processes.pid_of(f"{mine}/a-task") == str(os.getpid())
    assert processes.pid_of("mac/pid/77/1795575446.91/a-task") == "77"
    assert processes.name_of(f"{mine}/a-task", "gpu-7") == f"gpu-7 · {os.getpid()}"
    assert processes.name_of("agent:12/0b7d", "gpu-7") == "gpu-7"
