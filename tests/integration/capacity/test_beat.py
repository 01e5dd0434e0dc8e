"""A real beat and a real control worker poll the pause queue; both end and start again cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backend.embedded import die_with_parent
from pause_manager import manager, nodes
from pause_manager.models import PauseQueueEntry
from pause_manager.needs import Needs
from pause_manager.pause_queue import Parked
from tests.integration.capacity.fleet import HERE
from tests.workers import REPOSITORY, Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load"), pytest.mark.slow]
ENV = {
    "DJANGO_SETTINGS_MODULE": "tests.integration.capacity.watching_settings",
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


def waits(ref: str) -> bool:
    return PauseQueueEntry.objects.waiting().filter(ref=ref).exists()


@pytest.mark.req("P-17", "P-16")
def test_beat_polls_and_ends_and_starts_again_cleanly(workers: Workers, tmp_path: Path) -> None:
    workers.start("control", "-Q", "control", "-P", "solo", env=ENV)
    assert eventually(lambda: nodes.live_node(HERE))
    for turn in (1, 2):
        parked = Parked(f"import:{turn}", "others.work", "nobody", Needs(cpu=0.001))
        manager.pause_work([parked], reason="full")
        process = beat(workers, tmp_path / f"beat-{turn}.log")
        try:
            assert eventually(lambda ref=parked.ref: not waits(ref), 40)
            assert eventually(lambda turn=turn: "pause_manager.poll" in (tmp_path / f"beat-{turn}.log").read_text())
        finally:
            process.terminate()
            ended = process.wait(30)
        assert ended == 0

    assert PauseQueueEntry.objects.filter(outcome="sent").count() == 2
