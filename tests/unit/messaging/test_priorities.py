"""One order of priority, whatever the broker counts by."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from pause_manager.messaging import message_names, priorities


def sent(driver_type: str, *, headers: dict[str, Any] | None = None, **options: Any) -> int:
    """The priority of a message that Celery publishes with these options; kombu fills a 0 in where none is given."""
    given, properties = {"retries": 0, **(headers or {})}, dict(options)
    message_names.name_message(properties=properties, headers=given)
    return priorities.of_message(given, {"priority": 0, **properties}, driver_type)


@pytest.mark.parametrize("driver_type", ["redis", "amqp", "memory", "SQS", "qpid", "N/A"])
def test_without_a_wish_it_is_3_on_every_broker(driver_type):
    assert sent(driver_type) == 3
    assert sent(driver_type, priority=None) == 3


@pytest.mark.parametrize(
    ("driver_type", "by_wish"),
    [("redis", {0: 1, 1: 1, 4: 3, 6: 4, 9: 5}), ("amqp", {0: 5, 1: 5, 4: 3, 6: 2, 9: 1})],
)
def test_a_wish_counts_in_the_brokers_own_order(driver_type, by_wish):
    assert {wish: sent(driver_type, priority=wish) for wish in by_wish} == by_wish
    assert sent(driver_type, priority=99) == by_wish[9]
    assert sent(driver_type, priority=-1) == by_wish[0]


def test_what_another_sender_says_counts_unless_it_is_the_0_that_means_nothing():
    assert priorities.of_message({}, {"priority": 9}, "redis") == 5
    assert priorities.of_message({}, {"priority": 0}, "redis") == 3
    assert priorities.of_message({}, {}, "amqp") == 3
    assert priorities.of_message({priorities.WISH: "high"}, {"priority": "low"}, "amqp") == 3


def test_a_retry_wishes_for_what_its_task_did_and_for_nothing_if_that_did():
    assert sent("redis", headers={"retries": 1}, priority=0) == 3
    assert sent("redis", headers={"retries": 1, priorities.WISH: 0}, priority=0) == 1


@pytest.mark.parametrize("url", ["redis://", "rediss://", "sentinel://"])
def test_every_way_to_redis_is_redis(url):
    app = Celery(broker=f"{url}localhost:1")
    driver_type = app.connection_for_write().get_transport_cls().driver_type

    assert priorities.of_message({}, {"priority": 9}, driver_type) == 5
    assert priorities.of_message({}, {"priority": 9}, Connection("amqp://").get_transport_cls().driver_type) == 1
