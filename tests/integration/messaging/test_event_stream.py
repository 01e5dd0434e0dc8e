"""The fan-out channel: an outside subscriber hears of each pause and resume after its commit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import transaction

from automation.runs import lifecycle
from pause_manager import holds, manager
from pause_manager.capacity.needs import Needs
from pause_manager.messaging import event_stream
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.worker.node_monitor import NodeMonitor
from tests.integration.nodes.test_node_monitor import Machine, carrying
from tests.support.factories import OPERATOR, make_run
from tests.support.sampled_fleet import HERE, full, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


class Subscriber:
    """Somebody else's process with nothing but Redis."""

    def __init__(self) -> None:
        self._pubsub = redis.Redis.from_url(os.environ["REDIS_URL"]).pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(django_settings.PAUSE_MANAGER["events_channel"])
        self._pubsub.get_message(timeout=1)

    def heard(self) -> list[dict[str, Any]]:
        found = []
        while (message := self._pubsub.get_message(timeout=0.3)) is not None:
            found.append(json.loads(message["data"]))
        return found

    def close(self) -> None:
        self._pubsub.close()


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    event_stream.publisher.away_until = 0.0
    one = Subscriber()
    yield one
    one.close()


def told(messages: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["action"] == action]


@pytest.mark.req("P-34")
def test_a_run_that_is_parked_and_sent_on_is_announced_with_the_reason(subscriber: Subscriber) -> None:
    full()
    run = make_run()

    (parked,) = told(subscriber.heard(), "parked")
    assert (parked["refs"], parked["actor"]) == ([run.scope], "capacity")
    assert "has 0 of 8 cores free, 1 core needed; " in parked["reason"]

    node()
    manager.poll()
    (sent,) = told(subscriber.heard(), "sent_on")
    assert (sent["refs"], sent["reason"]) == ([run.scope], f"capacity is back: {HERE} has 100% free")


@pytest.mark.req("P-34")
def test_a_persons_pause_and_resume_are_announced(subscriber: Subscriber) -> None:
    node()
    run = make_run("scripted")

    lifecycle.pause(run.pk, actor=OPERATOR, reason="the demo")
    lifecycle.resume(run.pk, actor=OPERATOR)

    messages = subscriber.heard()
    (placed,), (released,) = told(messages, "hold_placed"), told(messages, "hold_released")
    assert placed == {"action": "hold_placed", "refs": [run.scope], "reason": "the demo", "actor": "user:olga"}
    assert released["refs"] == [run.scope]


@pytest.mark.req("P-34")
def test_yields_and_saturation_of_a_node_are_announced(subscriber: Subscriber) -> None:
    node()
    machine = Machine(NodeMonitor())
    with carrying("slice:1", cpu=6):
        machine.sees(8, foreign=7)

    messages = subscriber.heard()
    (saturated,), (yields,) = told(messages, "node_saturated"), told(messages, "yield_wanted")
    assert saturated["refs"] == yields["refs"] == [f"node:{HERE}"]
    assert saturated["reason"].startswith(f"{HERE} takes no new work: it has 12.5% of its cores free")
    assert "other processes need 7.0 cores and our work reserved 6.0 cores of 8.0 cores" in yields["reason"]


@pytest.mark.req("P-34")
def test_nothing_is_announced_before_it_is_committed_nor_what_was_rolled_back(subscriber: Subscriber) -> None:
    parked = [WithheldDispatch("import:1", "others.work", "control", Needs())]

    with transaction.atomic():
        manager.pause_work(parked, reason="full")
        inside = subscriber.heard()
    after = subscriber.heard()
    with transaction.atomic():
        holds.place(["node:a"], actor=OPERATOR, reason="new memory")
        transaction.set_rollback(True)

    assert inside == []
    assert after == [{"action": "parked", "refs": ["import:1"], "reason": "full", "actor": "capacity"}]
    assert subscriber.heard() == []


def test_many_refs_are_told_in_messages_of_a_bounded_size(subscriber: Subscriber) -> None:
    many = [WithheldDispatch(f"import:{n}", "others.work", "control", Needs()) for n in range(1_200)]

    manager.pause_work(many, reason="full")

    assert [len(message["refs"]) for message in subscriber.heard()] == [500, 500, 200]


def test_a_pause_stands_while_redis_is_away(subscriber: Subscriber, settings: Any, caplog: Any) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "redis_url": "redis://127.0.0.1:1/0"}
    began = time.monotonic()
    try:
        for number in range(50):
            manager.pause_work([WithheldDispatch(f"import:{number}", "others.work", "control", Needs())], reason="full")
    finally:
        event_stream.publisher.away_until = 0.0

    assert time.monotonic() - began < 20
    assert caplog.text.count("pauses are not announced for a while") == 1
