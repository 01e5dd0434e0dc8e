"""A heartbeat that meets the commit which ends its own lease has lost nothing."""

from __future__ import annotations

import time
from functools import partial

import pytest

from automation import stage_loop
from pause_manager import notice
from tests.concurrency.racing import in_thread, wait_until_blocked
from tests.factories import events, make_run, midway_in_a_checkpoint, run_loop

pytestmark = pytest.mark.django_db(transaction=True)


def heartbeat_meets_commit(rounds: int) -> int:
    """How many loops believed that another worker had taken their slice, which none had."""
    mistaken = 0
    for _ in range(rounds):
        run = make_run("buffered", items=5)
        with midway_in_a_checkpoint(run):
            # The checkpoint has its slice and waits to write the outputs …
            loop = in_thread(partial(run_loop, run))
            wait_until_blocked(loop)
            # … while the heartbeat waits for the slice.
            notice.publish([run.scope])
            time.sleep(0.05)
        loop.join()
        mistaken += any(event.figures["code"] == "lease_lost" for event in events(run, "stopped"))
    return mistaken


def test_a_loop_that_ends_its_slice_does_not_believe_it_lost():
    assert heartbeat_meets_commit(rounds=10) == 0


def test_without_the_guard_a_loop_does(monkeypatch):
    never = property(lambda _: False, lambda *_: None)
    monkeypatch.setattr(stage_loop.StageLoop, "_is_ending", never, raising=False)

    assert heartbeat_meets_commit(rounds=30) > 0
