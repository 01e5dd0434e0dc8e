"""A real beat and a real control worker poll the pause queue; both end and start again cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from backend.embedded import die_with_parent
from pause_manager import manager, nodes
from pause_manager.capacity.needs import Needs
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.sampled_fleet import HERE
from tests.support.workers import REPOSITORY, Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load"), pytest.mark.slow]
ENV = {
    "DJANGO_SETTINGS_MODULE": "tests.support.settings.watching",
    "PAUSE_POLLING_INTERVAL_SECONDS": "1",
}


def beat(workers: Workers, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", "--quiet", "-A", "backend", "beat", "-l", "INFO"],
            cwd=REPOSITORY,
            env={**workers.env, **ENV},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )


def is_sent(ref: str) -> bool:
    return PauseQueueEntry.objects.filter(ref=ref, outcome="sent").exists()


def has_asked_for_a_poll(log: Path) -> bool:
    return "pause_manager.poll" in log.read_text()


def ends(process: subprocess.Popen[bytes]) -> bool:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(15)
    return process.poll() is not None


@pytest.mark.req("P-17", "P-16")
def test_beat_polls_and_ends_and_starts_again_cleanly(workers: Workers, tmp_path: Path) -> None:
    workers.start("control", "-Q", "control,imports", "-P", "solo", env=ENV)
    assert eventually(lambda: nodes.live_node(HERE))
    for turn in (1, 2):
        parked = WithheldDispatch(
            f"import:{turn}", "others.work", "nobody", Needs(cpu=0, memory_mib=1), work_queue="imports"
        )
        manager.pause_work([parked], reason="full")
        process = beat(workers, tmp_path / f"beat-{turn}.log")
        try:
            assert eventually(partial(is_sent, parked.ref), 40)
            assert eventually(partial(has_asked_for_a_poll, tmp_path / f"beat-{turn}.log"))
            # Celery's handler raises SystemExit wherever it strikes, and may be swallowed there: asked again, it ends.
            assert eventually(partial(ends, process), 60)
            assert process.returncode == 0
        finally:
            process.kill()

    assert PauseQueueEntry.objects.filter(outcome="sent").count() == 2
