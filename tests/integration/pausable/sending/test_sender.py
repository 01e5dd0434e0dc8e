"""What is sent on has a fate of its own, message by message, and nobody waits for a broker that does not answer."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery, current_app
from django.db import connection, transaction
from kombu import Exchange, Queue

from backend.embedded.redis_server import _redis_server
from pause_manager import holds, pause_queue
from pause_manager.actor import SYSTEM
from pause_manager.messaging import broker, broker_connection
from pause_manager.models import ControlEvent, PauseQueueEntry
from pause_manager.nodes import members
from pause_manager.pausable import redispatch
from tests.support.foreign_project import hold, release
from tests.support.parked_rows import QUEUE, in_transaction, keep, were_sent
from tests.support.rabbitmq import RabbitMQ, is_installed
from tests.support.system import unused_port
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

needs_rabbitmq = pytest.mark.skipif(not is_installed(), reason="no RabbitMQ is installed (Debian: rabbitmq-server)")


@pytest.fixture(autouse=True)
def _knows_nothing_of_a_broker() -> Iterator[None]:
    yield
    broker_connection.note_away(is_away=False)
    redispatch._counts.clear()


@contextmanager
def operating(url: str) -> Iterator[Any]:
    """This process as an operator of a project that uses the broker at ``url`` and says nothing of time-outs."""
    ours: Any = current_app
    ours = ours._get_current_object()
    operator = Celery("operator", broker=url)
    operator.set_current()
    try:
        yield operator
    finally:
        operator.close()
        ours.set_current()


@pytest.fixture
def amqp(rabbitmq: RabbitMQ) -> Iterator[Any]:
    with operating(rabbitmq.url) as operator, operator.connection_for_write() as open_connection:
        channel = open_connection.default_channel
        for name in (QUEUE, "other"):
            channel.queue_declare(name, durable=True, auto_delete=False)
        yield channel
        for name in (QUEUE, "other"):
            channel.queue_delete(name)


def by_outcome() -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in PauseQueueEntry.objects.all():
        key = entry.outcome or f"waits:{entry.problem}"
        found[key] = found.get(key, 0) + 1
    return found


def go_on() -> int:
    return redispatch.dispatch_released(actor=SYSTEM, reason="nothing holds it any more")


def assert_that_one_goes_nowhere(odd: PauseQueueEntry) -> None:
    began = time.monotonic()
    assert go_on() == 49
    assert broker.queue_depth(QUEUE) == 49
    assert by_outcome() == {"sent": 49, "waits:refused": 1}
    odd.refresh_from_db()
    assert odd.resume_after is not None
    first = odd.resume_after - PauseQueueEntry.objects.exclude(pk=odd.pk)[0].paused_at
    assert 9 < first.total_seconds() < 60

    events = ControlEvent.objects.count()
    redispatch.reconcile()
    assert go_on() == 0, "it is not tried before its time"
    assert ControlEvent.objects.count() == events
    assert time.monotonic() - began < 30

    first_time = odd.resume_after
    PauseQueueEntry.objects.filter(pk=odd.pk).update(resume_after=None)
    assert go_on() == 0
    odd.refresh_from_db()
    assert odd.resume_after is not None
    assert (odd.resume_after - first_time).total_seconds() > 10
    assert (odd.problem, odd.losses) == ("refused", 2)
    assert broker.queue_depth(QUEUE) == 49


def test_one_of_fifty_that_cannot_be_built_goes_nowhere_and_the_others_arrive():
    before, odd, after = keep(20), keep(headers={"compression": "application/x-own"}), keep(29)
    assert len(before) + len(odd) + len(after) == 50

    assert_that_one_goes_nowhere(odd[0])

    odd[0].refresh_from_db()
    assert "application/x-own" in odd[0].reason


@needs_rabbitmq
@pytest.mark.slow
class TestOnRabbitMQ:
    def test_one_of_fifty_whose_queue_is_gone_goes_nowhere_and_the_others_arrive(self, amqp):
        keep(20)
        (odd,) = keep(queue="gone")
        keep(29)

        assert_that_one_goes_nowhere(odd)

        odd.refresh_from_db()
        assert odd.reason == "The broker refuses the message: There is no queue gone."

    def test_a_message_that_costs_the_connection_costs_no_other_its_way(self, amqp):
        keep(20)
        (odd,) = keep(headers={"huge": "x" * 200_000})  # more than a frame may hold
        keep(29)

        assert go_on() == 49

        assert by_outcome() == {"sent": 49, "waits:refused": 1}
        odd.refresh_from_db()
        assert "FRAME_ERROR" in odd.reason
        # What was not yet confirmed was sent once more, as the same message: the second is discarded.
        arrived = []
        while (message := amqp.basic_get(QUEUE, no_ack=True)) is not None:
            arrived.append(message.properties["application_headers"]["pause-entry"])
        sent = PauseQueueEntry.objects.filter(outcome="sent").values_list("pk", flat=True)
        assert set(arrived) == {f"{pk}.1" for pk in sent}

    def test_a_queue_that_takes_no_more_refuses_and_nothing_is_lost(self, amqp):
        limits = {"x-max-length": 10, "x-overflow": "reject-publish"}
        amqp.queue_declare("narrow", durable=True, auto_delete=False, arguments=limits)
        keep(15, queue="narrow")
        try:
            go_on()

            assert broker.queue_depth("narrow") == by_outcome()["sent"]
            assert by_outcome() == {"sent": 10, "waits:refused": 5}
        finally:
            amqp.queue_delete("narrow")

    def test_an_exchange_that_is_gone_matters_to_nobody(self, amqp):
        keep(5, exchange="renamed-by-an-upgrade", routing_key="feed.new")

        assert go_on() == 5
        assert broker.queue_depth(QUEUE) == 5

    def test_a_topic_gives_no_copy_to_another_queue(self, amqp):
        topic = Exchange("feeds", type="topic")
        for name in (QUEUE, "other"):
            Queue(name, topic, routing_key="feed.#")(amqp).declare()
        keep(5, exchange="feeds", routing_key="feed.new")

        assert go_on() == 5
        assert (broker.queue_depth(QUEUE), broker.queue_depth("other")) == (5, 0)

    def test_a_signature_is_confirmed_and_makes_its_queue_as_celery_does(self, amqp):
        from pause_manager import manager
        from pause_manager.actor import CAPACITY
        from pause_manager.capacity.needs import Needs
        from pause_manager.pause_queue.writer import WithheldDispatch

        manager.pause_work(
            [WithheldDispatch("import:1", "tests.foreign.tasks.add", "fresh", Needs(), (1, 2))], reason="full"
        )
        entry = PauseQueueEntry.objects.get()
        try:
            assert pause_queue.send_on([entry.pk], actor=CAPACITY, reason="room") == 1
            message = amqp.basic_get("fresh", no_ack=True)
        finally:
            amqp.queue_delete("fresh")
        headers = message.properties["application_headers"]
        assert (headers["task"], headers["id"]) == ("tests.foreign.tasks.add", f"parked-{entry.pk}")
        assert headers["pause-entry"] == f"{entry.pk}.1"

    def test_a_thousand_are_confirmed_in_the_order_of_their_turns(self, amqp):
        kept = keep(300)

        assert go_on() == 300

        order = [amqp.basic_get(QUEUE, no_ack=True).properties["application_headers"]["id"] for _ in range(300)]
        assert order == [entry.ref.removeprefix("task:") for entry in kept]


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@contextmanager
def redis_of_its_own(root: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    port = unused_port()
    command = [_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(port=port) as client:
                assert eventually(lambda: _answers(client))
            yield f"redis://127.0.0.1:{port}/0", [psutil.Process(process.pid)]
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def assert_that_nobody_waits(processes: list[psutil.Process]) -> None:
    hold()
    keep(20)
    with frozen(processes):
        began = time.monotonic()
        release()
        assert time.monotonic() - began < 3, "a release answers at once"
        assert not connection.in_atomic_block
        assert in_transaction() == 0
        assert by_outcome() == {"waits:": 20}
        assert not PauseQueueEntry.objects.filter(losses__gt=0).exists(), "nothing counts as lost"

        began = time.monotonic()
        redispatch.reconcile()
        assert time.monotonic() - began < 20
        assert in_transaction() == 0
        assert by_outcome() == {"waits:": 20}

        # And with messages that are overdue, which the broker is asked about.
        PauseQueueEntry.objects.update(outcome="sent", finished_at="2026-01-01T00:00Z", generation=1)
        were_sent(3_600)
        redispatch.reconcile()
        assert by_outcome() == {"sent": 20}, "what the broker has is not known, so nothing is lost"
        PauseQueueEntry.objects.update(outcome="", finished_at=None, sent_at=None)

    redispatch.reconcile()
    assert by_outcome() == {"sent": 20}
    assert broker.queue_depth(QUEUE) == 20


@pytest.mark.slow
def test_a_frozen_redis_holds_nobody_up(tmp_path):
    with redis_of_its_own(tmp_path) as (url, processes), operating(url):
        assert_that_nobody_waits(processes)


@needs_rabbitmq
@pytest.mark.slow
def test_a_frozen_rabbitmq_holds_nobody_up(amqp, rabbitmq):
    assert rabbitmq._process is not None
    root = psutil.Process(rabbitmq._process.pid)
    servers = [one for one in [root, *root.children(recursive=True)] if "beam" in one.name()]
    assert servers
    assert_that_nobody_waits(servers)


def test_a_broker_that_freezes_in_the_middle_leaves_nothing_between_two_stools(tmp_path):
    """The first half of the messages is sent when it freezes; nothing is sent with an old number after that."""
    keep(40)
    with redis_of_its_own(tmp_path) as (url, processes), operating(url):
        with broker.sender(1.0) as sender:
            ids = list(PauseQueueEntry.objects.order_by("pk").values_list("pk", flat=True))
            first = pause_queue.close_as_sent(ids[:20], actor=SYSTEM, reason="free")
            assert pause_queue.deliver(first, by=sender) == 20
            second = pause_queue.close_as_sent(ids[20:], actor=SYSTEM, reason="free")
            with frozen(processes):
                began = time.monotonic()
                assert pause_queue.deliver(second, by=sender) == 0
                assert time.monotonic() - began < 6
        assert by_outcome() == {"sent": 20, "waits:": 20}
        broker_connection.note_away(is_away=False)
        assert go_on() == 20
        assert by_outcome() == {"sent": 40}


def test_a_release_inside_a_transaction_of_the_callers_asks_the_broker_after_it(tmp_path):
    hold()
    keep(3)
    with redis_of_its_own(tmp_path) as (url, processes), operating(url), frozen(processes):
        with transaction.atomic():
            began = time.monotonic()
            release()
            assert time.monotonic() - began < 1, "nobody is asked inside it"
        assert by_outcome() == {"waits:": 3}


def test_what_a_release_does_not_send_is_left_to_the_control_worker():
    hold()
    keep(redispatch.AT_ONCE + 30)

    release()

    sent = by_outcome()["sent"]
    assert 0 < sent <= redispatch.AT_ONCE
    # On a slow machine its moment is over before; then the poll finds what is left.
    assert broker.queue_depth("control") == (1 if sent == redispatch.AT_ONCE else 0)
    assert go_on() == redispatch.AT_ONCE + 30 - sent


def test_a_callback_that_fails_stops_no_other_at_the_release():
    hold()
    keep(2)
    told = []
    with transaction.atomic():
        transaction.on_commit(lambda: 1 / 0, robust=True)
        release()
        transaction.on_commit(lambda: told.append(True))

    assert told
    assert by_outcome() == {"sent": 2}


def reports(name: str, at_work: int, received: int, **known: Any) -> None:
    members.acknowledge(name, node="n", queues=[QUEUE], version=1, in_hand={QUEUE: (at_work, received)}, **known)


def take_from_the_queue(count: int) -> None:
    """As a worker that prefetches: they are in no list of the broker any more."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        for key in [key for key in store.keys(f"{QUEUE}*") if store.type(key) == b"list"]:
            while count and store.rpop(key):
                count -= 1
    assert count == 0


@pytest.mark.slow
def test_a_broker_that_takes_nothing_is_let_alone_and_what_comes_after_the_refused_is_sent():
    keep(250, headers={"compression": "application/x-own"})
    keep(5)

    assert go_on() == 5
    assert by_outcome() == {"sent": 5, "waits:refused": 250}

    PauseQueueEntry.objects.all().delete()
    keep(500, headers={"compression": "application/x-own"})
    assert go_on() == 0
    assert by_outcome() == {"waits:refused": 300, "waits:": 200}, "the rest is for the next poll"


def test_two_hundred_in_the_hands_of_workers_are_not_sent_twice():
    hold()
    keep(200)
    release()
    redispatch.dispatch_released(actor=SYSTEM, reason="free")
    assert broker.queue_depth(QUEUE) == 200
    take_from_the_queue(150)
    were_sent(600)
    reports("one@n", 4, 100)
    reports("two@n", 4, 50)

    for _ in range(3):
        redispatch.reconcile()
        reports("one@n", 4, 100)
        reports("two@n", 4, 50)

    assert by_outcome() == {"sent": 200}
    assert set(PauseQueueEntry.objects.values_list("generation", flat=True)) == {1}

    # One worker ends, and what it had in hand goes with it: that difference is sent again, the oldest first.
    oldest = list(PauseQueueEntry.objects.order_by("sent_at", "id").values_list("pk", flat=True)[:50])
    members.leave("two@n")
    redispatch.reconcile()
    reports("one@n", 4, 100)
    redispatch.reconcile()
    assert sorted(PauseQueueEntry.objects.filter(generation=2).values_list("pk", flat=True)) == sorted(oldest)
    reports("one@n", 4, 100)
    redispatch.reconcile()
    assert PauseQueueEntry.objects.filter(generation__gt=2).count() == 0
    assert PauseQueueEntry.objects.filter(generation=2).count() == 50


def test_a_report_from_before_the_count_proves_no_loss():
    keep(10)
    reports("one@n", 0, 0)
    go_on()
    were_sent(600)
    take_from_the_queue(10)  # by the worker, whose last word is older

    redispatch.reconcile()
    redispatch.reconcile()
    assert by_outcome() == {"sent": 10}
    reports("one@n", 0, 10)
    redispatch.reconcile()
    assert by_outcome() == {"sent": 10}
    assert set(PauseQueueEntry.objects.values_list("generation", flat=True)) == {1}


def test_what_is_lost_three_times_waits_alone_and_is_seen():
    keep(1)
    for losses in (1, 2, 3):
        assert go_on() == 1
        take_from_the_queue(1)
        were_sent(100_000)
        redispatch._send_lost_again()
        entry = PauseQueueEntry.objects.get()
        assert (entry.outcome, entry.losses, entry.generation) == ("", losses, losses)
    assert entry.problem == "unconfirmed"
    assert entry.reason.startswith("It was sent 3 times and nobody took it up")
    assert go_on() == 0


def test_the_parts_of_the_repair_do_not_stop_each_other(settings):
    keep(3)
    # Somebody has the lock that two of the parts need, and a worker's report is not what it should be.
    members.acknowledge("odd@n", node="n", queues=[QUEUE], version=1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pause_manager_fleetworker SET in_hand = '{\"foreign\": \"many\"}', task_names = '7'")
    (unknown,) = keep(queue="elsewhere", problem="unknown_task")

    redispatch.reconcile()

    assert PauseQueueEntry.objects.filter(outcome="sent").count() == 3
    unknown.refresh_from_db()
    assert unknown.problem == "unknown_task"


def test_a_hold_that_covers_the_queue_keeps_what_was_refused_too():
    keep(1, problem="refused")
    holds.place([f"queue:{QUEUE}"], actor=SYSTEM, reason="busy")
    assert go_on() == 0
    holds.release([f"queue:{QUEUE}"], actor=SYSTEM, reason="done")
    assert by_outcome() == {"sent": 1}
