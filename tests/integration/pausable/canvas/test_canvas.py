"""The drop-in changes nothing: Celery's canvas with plain tasks, with pausable ones, and with a pause in the middle."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
import redis

from pause_manager.models import PauseQueueEntry, RunningTask
from tests.support.foreign_project import Foreign, hold, reconciled, release
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

POOLS = [
    pytest.param(("-c", "2"), id="prefork"),
    pytest.param(("-P", "threads", "-c", "3"), id="threads"),
]


def ledger(foreign: Foreign) -> list[str]:
    """What every task wrote, in no order; the ledger is then empty."""
    lines = sorted(json.dumps(line) for line in foreign.notes())
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        store.delete("foreign-ledger")
    return lines


def has_settled(foreign: Foreign) -> bool:
    """Whether nothing has been written for a second, nothing runs and nothing waits."""
    before = len(foreign.notes())
    time.sleep(1)
    is_open = PauseQueueEntry.objects.waiting().exists() or PauseQueueEntry.objects.unconfirmed().exists()
    return len(foreign.notes()) == before and not RunningTask.objects.exists() and not is_open


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS)
def test_the_canvas_is_as_without_it_and_goes_on_after_pauses(foreign: Foreign, pool: tuple[str, ...]):
    plain: dict[str, Any] = {"FOREIGN_TASK_CLS": "celery:Task"}
    foreign.worker("plain", *pool, **plain)
    foreign.desk(**plain).ask("start")
    expected = foreign.desk(**plain).ask("outcomes")
    assert eventually(lambda: has_settled(foreign), 30)
    expected_ledger = ledger(foreign)
    foreign.workers.stop("plain")
    assert [name for name, told in expected.items() if told == "nothing came"] == []

    foreign.worker("pausable", *pool)
    foreign.desk().ask("start")
    outcomes = foreign.desk().ask("outcomes")
    assert eventually(lambda: has_settled(foreign), 30)

    assert outcomes == expected
    assert ledger(foreign) == expected_ledger
    assert not PauseQueueEntry.objects.exists()

    foreign.workers.stop("pausable")
    foreign.worker("one", *pool, "--prefetch-multiplier", "64")
    foreign.are_taken([foreign.send("steady", name, 8) for name in "abc"])
    foreign.desk().ask("start")
    assert eventually(lambda: foreign.workers.said("one").count("] received") >= 30)
    hold()
    # The pool is busy; what the worker has taken besides does not wait for it.
    assert eventually(lambda: PauseQueueEntry.objects.waiting().count() >= 20, 30)
    assert {note[0] for note in foreign.notes()} <= {"steady", "steady-end"}
    for _ in range(3):
        release()
        time.sleep(0.4)
        hold()
        time.sleep(0.4)
    release()
    assert reconciled(lambda: has_settled(foreign))
    outcomes = foreign.desk().ask("outcomes")

    assert outcomes == expected
    assert [line for line in ledger(foreign) if "steady" not in line] == expected_ledger
