"""A heartbeat that meets the commit which ends its own lease has lost nothing."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
from django.db import connection

from automation import stage_loop
from pause_manager import notice
from pause_manager.watcher import Watcher
from tests.concurrency.racing import in_thread, wait_until_blocked
from tests.factories import events, make_run, midway_in_a_checkpoint, run_loop

pytestmark = pytest.mark.django_db(transaction=True)


def wait_until_two_wait(seconds: float = 10) -> None:
    """Return once two connections wait for locks: the checkpoint for the output, the heartbeat for the slice."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
            )
            if cursor.fetchone()[0] >= 2:
                return
        time.sleep(0.005)
    raise TimeoutError("the heartbeat never waited for the slice")


def heartbeat_meets_commit(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a loop believed that another worker had taken its slice, which none had."""
    is_answered = threading.Event()
    judge, committed = Watcher._judge, stage_loop.StageLoop._committed

    def judged(watcher, watch, held):
        judge(watcher, watch, held)
        is_answered.set()

    def committed_and_answered(loop, done):
        # The order that hurts: the heartbeat's answer comes in after the commit and before the loop looks again.
        assert is_answered.wait(10)
        committed(loop, done)

    monkeypatch.setattr(Watcher, "_judge", judged)
    monkeypatch.setattr(stage_loop.StageLoop, "_committed", committed_and_answered)
    run = make_run("buffered", items=5)
    with midway_in_a_checkpoint(run):
        # The checkpoint has its slice and waits to write the outputs …
        loop = in_thread(partial(run_loop, run))
        wait_until_blocked(loop)
        # … while the heartbeat waits for the slice.
        is_answered.clear()
        notice.publish([run.scope])
        wait_until_two_wait()
    loop.join()
    return any(event.figures["code"] == "lease_lost" for event in events(run, "stopped"))


def test_a_loop_that_ends_its_slice_does_not_believe_it_lost(monkeypatch):
    assert not heartbeat_meets_commit(monkeypatch)


def test_without_the_guard_a_loop_does(monkeypatch):
    never = property(lambda _: False, lambda *_: None)
    monkeypatch.setattr(stage_loop.StageLoop, "_is_ending", never, raising=False)

    assert heartbeat_meets_commit(monkeypatch)
