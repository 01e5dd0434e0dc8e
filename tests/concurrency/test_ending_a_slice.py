"""A heartbeat that meets the commit which ends its own lease has lost nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from automation.leases import checkpoint, loop_heartbeat
from automation.leases.committing import AsyncCommitter
from automation.worker import stage_loop
from pause_manager.slots import stop_publisher
from pause_manager.slots.slot_table import SlotNote
from pause_manager.slots.stop_publisher import LoopStops, StopPublisher, StopSource
from tests.support.factories import events, make_run, outputs, run_loop

pytestmark = pytest.mark.django_db(transaction=True)


def heartbeat_meets_commit(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a loop believed that another worker had taken its slice, which none had."""
    is_asked, is_committed, is_answered = threading.Event(), threading.Event(), threading.Event()
    committed, judge = stage_loop.StageLoop._committed, StopPublisher.judge

    def judged(loops: Sequence[SlotNote]) -> LoopStops:
        # What was noted is read by now, and the statement comes after the commit.
        if any("slice" in one.about for one in loops) and not is_asked.is_set():
            is_asked.set()
            assert is_committed.wait(10)
        return loop_heartbeat.judge(loops)

    def judged_and_told(publisher, *rings):
        judge(publisher, *rings)
        if is_committed.is_set():
            is_answered.set()

    def committed_and_answered(loop, done):
        # The order that hurts: the answer comes in after the commit and before the loop looks again.
        is_committed.set()
        assert is_answered.wait(10)
        committed(loop, done)

    monkeypatch.setattr(stop_publisher, "_judge", StopSource(judged, lambda: 0.05))
    monkeypatch.setattr(StopPublisher, "judge", judged_and_told)
    monkeypatch.setattr(stage_loop.StageLoop, "_committed", committed_and_answered)
    # A slice that is leased while the commit is under way is noted, and of who notes another no stop is believed.
    monkeypatch.setattr(stage_loop.StageLoop, "_lease_early", lambda _: None)
    monkeypatch.setattr(checkpoint, "statement", _once(is_asked, checkpoint.statement))
    run = make_run("buffered", items=10)

    run_loop(run)

    assert len(outputs(run)) in (5, 10)
    return any(event.details["code"] == "lease_lost" for event in events(run, "stopped"))


def _once(is_asked: threading.Event, commit):
    def waited(*args, **options):
        assert is_asked.wait(10)
        return commit(*args, **options)

    return waited


def test_a_loop_that_ends_its_slice_does_not_believe_it_lost(monkeypatch):
    assert not heartbeat_meets_commit(monkeypatch)


def test_without_the_guard_a_loop_does(monkeypatch):
    monkeypatch.setattr(AsyncCommitter, "_note", lambda *_, **__: None)

    assert heartbeat_meets_commit(monkeypatch)
