"""Pausable tasks that use a resource: held, throttled, limited at once and a minute."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from itertools import pairwise

import pytest
import redis

from pause_manager import holds, resources
from pause_manager.models import ControlEvent, Hold, PauseQueueEntry, Resource, RunningTask
from pause_manager.models.clock import database_now
from tests.support.foreign_project import OPERATOR, Foreign, OrdinaryDesk, hold, reconciled, release, waiting
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

THREADS = ("-P", "threads", "-c", "8")
PROVIDER = "resource:provider"


@pytest.fixture
def store():
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as opened:
        opened.delete("provider-is-full", "provider-at-once")
        yield opened
        opened.delete("provider-is-full", "provider-at-once")


@pytest.fixture
def foreign(process_env, tmp_path):
    desk = OrdinaryDesk()
    project = Foreign(tmp_path, process_env, desk)
    try:
        yield project
    finally:
        project.close()
        desk.close()


def names(foreign: Foreign, kind: str) -> list[str]:
    return [note[1] for note in foreign.notes(kind)]


@pytest.mark.slow
def test_a_hold_by_hand_stops_tasks_in_the_middle_and_nothing_is_lost(foreign, store):
    foreign.worker("one", *THREADS)
    sent = [foreign.send("asks_provider", name, 3.0) for name in ("a", "b")]
    assert eventually(lambda: len(foreign.notes("piece")) >= 4)
    assert RunningTask.objects.filter(uses=["provider"]).count() == 2

    hold(PROVIDER, mode="quiesce")

    assert eventually(lambda: len(foreign.notes("left")) == 2), foreign.workers.said("one")[-3000:]
    assert waiting(2)
    late = foreign.send("asks_provider", "c", 0.1)
    other = foreign.send("add", 1, 2)
    assert foreign.ended(other) == ["SUCCESS", 3], "what does not use it goes on"
    assert waiting(3)
    assert "c" not in names(foreign, "asked")
    assert eventually(lambda: Hold.objects.active().get(scope=PROVIDER).drained_at is not None)

    release(PROVIDER)

    assert {foreign.ended(one)[1] for one in (*sent, late)} == {"a", "b", "c"}
    pieces = names(foreign, "piece")
    assert {name: pieces.count(name) for name in "abc"} == {"a": 10, "b": 10, "c": 10}
    assert eventually(lambda: not RunningTask.objects.exists())


@pytest.mark.slow
def test_one_that_is_told_too_much_stops_all_and_one_asks_again(foreign, store):
    foreign.worker("one", *THREADS)
    store.set("provider-is-full", "1")

    first = foreign.send("asks_provider", "a", 0.2)
    assert eventually(lambda: Resource.objects.filter(state="held").exists())
    others = [foreign.send("asks_provider", name, 0.2) for name in "bcdef"]

    assert waiting(6)
    assert names(foreign, "too much") == ["a"]
    held = Hold.objects.active().get(scope=PROVIDER)
    assert (held.kind, held.actor) == ("throttled", "task:tests.foreign.tasks.asks_provider")
    store.delete("provider-is-full")
    past = database_now() - timedelta(seconds=1)
    Hold.objects.active().filter(kind="throttled").update(expires_at=past)
    holds.expire()

    assert eventually(lambda: len(foreign.notes("asked")) >= 1)
    assert reconciled(lambda: len(foreign.notes("answered")) == 6), foreign.workers.said("one")[-3000:]
    assert {foreign.ended(one)[0] for one in (first, *others)} == {"SUCCESS"}
    asked = [(at, at_once) for _, _, at, at_once in foreign.notes("asked")]
    assert [at_once for _, at_once in sorted(asked)][:2] == [1, 1], "the first alone, then two at most"
    assert ControlEvent.objects.filter(scope=PROVIDER, action="resource_answered").count() == 1


def test_no_more_run_at_once_than_the_limit_and_the_next_starts_as_one_ends(foreign, store):
    resources.set_limits("provider", {"max_at_once": 2}, actor=OPERATOR)
    foreign.worker("one", *THREADS)
    began = time.monotonic()

    sent = [foreign.send("asks_provider", name, 0.5) for name in "abcdefgh"]

    assert eventually(lambda: len(foreign.notes("answered")) == len(sent), 40), foreign.workers.said("one")[-3000:]
    assert time.monotonic() - began < 20, "nobody waited for a poll"
    assert max(note[3] for note in foreign.notes("asked")) == 2
    assert sorted(names(foreign, "asked")) == list("abcdefgh")
    assert "limited to 2 at once" in PauseQueueEntry.objects.order_by("pk").values_list("reason", flat=True)[0]


@pytest.mark.slow
def test_starts_of_a_minute_are_counted(foreign, store):
    resources.set_limits("provider", {"max_per_minute": 30}, actor=OPERATOR)
    foreign.worker("one", *THREADS)

    sent = [foreign.send("asks_provider", name, 0.0) for name in "abc"]

    assert reconciled(lambda: len(foreign.notes("answered")) == len(sent))
    times = sorted(note[2] for note in foreign.notes("asked"))
    assert all(after - before > 1.9 for before, after in pairwise(times))
