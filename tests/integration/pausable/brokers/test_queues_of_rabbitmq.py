"""Which queue a message of RabbitMQ is of, and where it goes back to: the queue that it was taken from, whatever its
address says.
"""

from __future__ import annotations

import time
from typing import Any

from celery import current_app

from pause_manager.models import PauseQueueEntry
from tests.integration.pausable.brokers.test_rabbitmq import foreign, pytestmark  # noqa: F401  (fixtures)
from tests.support.foreign_project import Foreign, hold, release, waiting
from tests.support.workers import eventually

QUORUM = {"FOREIGN_TOPOLOGY": "quorum"}
TOPIC = {"FOREIGN_TOPOLOGY": "topic"}
DEAD_LETTERS = {"FOREIGN_TOPOLOGY": "dead-letters"}


def queues_of_entries() -> list[str]:
    return sorted(PauseQueueEntry.objects.values_list("queue", flat=True))


def test_what_the_broker_has_delayed_is_held_by_its_queue(foreign: Foreign):  # noqa: F811
    foreign.worker("one", **QUORUM)
    desk = foreign.desk(**QUORUM)
    retried = desk.ask("send", "flaky_slowly", 2)
    delayed = desk.ask("send", "add", 1, 1, countdown=4)
    assert eventually(lambda: foreign.notes("flaky_slowly"))
    time.sleep(0.5)
    assert f"{delayed}] received" not in foreign.workers.said("one"), "it waits in the broker"
    hold("queue:foreign")
    # A message that a hold keeps in the broker is in nobody's hand; one that comes back is taken by who consumes it.
    time.sleep(6)
    assert len(foreign.notes()) == 1

    release("queue:foreign")

    assert foreign.ended(delayed) == ["SUCCESS", 2]
    assert foreign.ended(retried) == ["SUCCESS", 2], foreign.workers.said("one")[-3000:]
    assert sorted(foreign.notes()) == [["add", 1, 1], *(["flaky_slowly", retry] for retry in range(3))]


def test_a_delayed_message_that_is_kept_is_of_its_queue_and_runs_once(foreign: Foreign):  # noqa: F811
    foreign.worker("one", "-c", "1", "--prefetch-multiplier", "8", **QUORUM)
    desk = foreign.desk(**QUORUM)
    busy = desk.ask("send", "steady", "busy", 6)
    assert eventually(lambda: foreign.notes("steady"))
    ids = [desk.ask("send", "add", n, n, countdown=1) for n in range(3)]
    ids.append(desk.ask("send", "flaky_slowly", 1, countdown=1))
    foreign.are_taken(ids)

    hold("queue:foreign")

    assert waiting(4), foreign.workers.said("one")[-3000:]
    assert queues_of_entries() == ["foreign"] * 4
    release("queue:foreign")
    assert foreign.ended(busy) == ["SUCCESS", "busy"]
    assert [foreign.ended(one) for one in ids] == [["SUCCESS", value] for value in (0, 2, 4, 1)]
    assert len(foreign.notes("add")) == 3
    assert [note[1] for note in foreign.notes("flaky_slowly")] == [0, 1], "what goes on from an entry may retry"


def test_each_queue_of_a_topic_exchange_is_held_for_itself_and_nothing_is_multiplied(foreign: Foreign):  # noqa: F811
    foreign.workers.start("one", "-Q", "feeds,videos,everything", "-c", "1", "--prefetch-multiplier", "16", env=TOPIC)
    desk = foreign.desk(**TOPIC)
    busy: Any = desk.ask("send", "steady", "busy", 4, exchange="media", routing_key="other")
    assert eventually(lambda: foreign.notes("steady"))
    video = desk.ask("send", "add", 1, 1, exchange="media", routing_key="video.encode")
    feed = desk.ask("send", "add", 2, 2, exchange="media", routing_key="feed.new.one")
    assert eventually(lambda: foreign.workers.said("one").count(f"{video}] received") == 2)
    assert eventually(lambda: foreign.workers.said("one").count(f"{feed}] received") == 2)

    hold("queue:videos")

    assert waiting(1)
    assert queues_of_entries() == ["videos"]
    assert foreign.ended(busy) == ["SUCCESS", "busy"]
    assert eventually(lambda: len(foreign.notes("add")) == 3)
    time.sleep(1)
    assert sorted(foreign.notes("add")) == [["add", 1, 1], ["add", 2, 2], ["add", 2, 2]]
    release("queue:videos")
    assert eventually(lambda: len(foreign.notes("add")) == 4)
    time.sleep(2)
    assert sorted(foreign.notes("add")) == [["add", 1, 1]] * 2 + [["add", 2, 2]] * 2, "once for each queue it was in"


def test_a_queue_that_is_added_at_run_time_and_one_after_a_reconnect_are_known(
    foreign: Foreign,  # noqa: F811
    rabbitmq: Any,
):
    foreign.workers.start("one", "-Q", "feeds", "-c", "1", "--prefetch-multiplier", "16", env=TOPIC)
    desk = foreign.desk(**TOPIC)
    desk.ask("control", "add_consumer", "videos")
    # Before that there is no such queue: the exchange would drop what is for it.
    assert eventually(lambda: "Started consuming from videos" in foreign.workers.said("one"))

    def is_kept_of(queue: str, key: str, number: int) -> None:
        busy = desk.ask("send", "steady", f"busy-{number}", 4, exchange="media", routing_key="feed.busy")
        assert eventually(lambda: len(foreign.notes("steady")) == number)
        sent = desk.ask("send", "add", number, number, exchange="media", routing_key=key)
        is_received = eventually(lambda: f"{sent}] received" in foreign.workers.said("one"))
        assert is_received, foreign.workers.said("one")[-3000:]
        hold(f"queue:{queue}")
        assert waiting(1), foreign.workers.said("one")[-3000:]
        assert PauseQueueEntry.objects.waiting().get().queue == queue
        release(f"queue:{queue}")
        assert foreign.ended(sent) == ["SUCCESS", 2 * number]
        assert foreign.ended(busy)[0] == "SUCCESS"

    is_kept_of("videos", "video.encode", 1)
    rabbitmq.close_connections()
    assert eventually(lambda: "Connection to broker lost" in foreign.workers.said("one"))
    is_kept_of("videos", "video.encode", 2)
    is_kept_of("feeds", "feed.new", 3)
    assert len(foreign.notes("add")) == 3


def test_what_a_dead_letter_exchange_brings_back_runs_again(foreign: Foreign):  # noqa: F811
    """It was kept once, so it names an entry that its first run has answered."""
    later = {"x-message-ttl": 1000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "foreign"}
    with current_app.connection_for_write() as opened:
        channel: Any = opened.default_channel
        channel.queue_declare("foreign-later", durable=True, auto_delete=False, arguments=later)
        try:
            foreign.worker("one", "-c", "1", **DEAD_LETTERS)
            sent = foreign.desk(**DEAD_LETTERS).ask("send", "dies", 2, countdown=3)
            foreign.are_taken([sent])
            hold()
            assert waiting(1), foreign.workers.said("one")[-3000:]

            release()

            assert eventually(lambda: foreign.notes("dies"), 20)
            assert eventually(lambda: foreign.notes("lives"), 20), foreign.workers.said("one")[-3000:]
            time.sleep(3)
            assert foreign.notes("dies", "lives") == [["dies", 2]] * 3 + [["lives", 2]]
            assert PauseQueueEntry.objects.unconfirmed().count() == 0
        finally:
            channel.queue_delete("foreign-later")
