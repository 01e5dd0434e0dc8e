"""What a delivery does at each state of the holds and of the fleet's room, without a worker in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import current_app
from django.db import connection, transaction
from kombu.common import Broadcast
from kombu.message import Message

from pause_manager import manager, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.messaging.message import Delivery
from pause_manager.models import ControlEvent, Hold, PauseQueueEntry, RunningTask
from pause_manager.pausable import PausableTask, confirmations, parked_messages, redispatch, running_tasks
from pause_manager.pause_queue import writer
from pause_manager.probes.processes import host_name
from pause_manager.worker.request import queue_of_message
from tests.support.deliveries import delivery
from tests.support.foreign_project import OPERATOR, hold, release
from tests.support.sampled_fleet import full, messages, node
from tests.support.sampling_workers import watching  # noqa: F401  (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)
QUEUE = "foreign"


@pytest.fixture
def task() -> Iterator[PausableTask]:
    declare = current_app.task(base=PausableTask, name="foreign.something", serializer="json", lazy=False)
    yield declare(_nothing)
    current_app.tasks.unregister("foreign.something")


def _nothing(*args: Any, **kwargs: Any) -> None:
    """What the task does."""


@pytest.fixture
def needy(task: PausableTask) -> PausableTask:
    type(task).needs = Needs(cpu=1)
    return task


def returned(task: PausableTask, queue: str = QUEUE) -> Delivery:
    """The message that has come back to the broker, as it is delivered."""
    (message,) = messages(queue)
    entry = PauseQueueEntry.objects.unconfirmed().get()
    assert (message.args, message.kwargs) == ([1], {"x": 2})
    return delivery(task, queue, **{"pause-entry": f"{entry.pk}.{entry.generation}"})


@pytest.mark.req("W-29", "P-20")
def test_a_message_waits_for_every_hold_that_covers_it(task: PausableTask):
    hold()
    hold(f"queue:{QUEUE}")
    hold("queue:other")
    assert parked_messages.admit(delivery(task)) is None
    assert PauseQueueEntry.objects.get().reason == "operator hold on fleet: upgrade"

    release()
    redispatch.reconcile()
    assert messages(QUEUE) == []

    release(f"queue:{QUEUE}")
    turn = parked_messages.admit(returned(task))
    assert turn is not None
    assert RunningTask.objects.get().entry_id == PauseQueueEntry.objects.get().pk == turn.entry


def test_a_held_node_gives_its_messages_to_others(task: PausableTask):
    hold(f"node:{host_name()}")
    assert parked_messages.admit(delivery(task)) is None
    assert messages(QUEUE) == [], "not at once: it might come back as fast"

    redispatch.reconcile()

    assert parked_messages.admit(returned(task)) is None
    assert PauseQueueEntry.objects.get().attempts == 1
    release(f"node:{host_name()}")
    assert parked_messages.admit(returned(task)) is not None


@pytest.mark.req("P-22")
def test_messages_go_on_by_priority_and_then_age(task: PausableTask):
    hold()
    for priority in (9, 0, 5, 0):
        info = {"exchange": "", "routing_key": QUEUE, "priority": priority}
        assert parked_messages.admit(delivery(task, delivery_info=info, argsrepr=f"{priority}")) is None
    order = list(PauseQueueEntry.objects.waiting().values_list("priority", flat=True))

    release()

    assert order == [1, 1, 3, 5]
    by_rank = PauseQueueEntry.objects.order_by("priority", "id").values_list("ref", flat=True)
    assert list(ControlEvent.objects.filter(action="sent_on").order_by("id").values_list("scope", flat=True)) == list(
        by_rank
    )


def starts(one: Delivery) -> bool:
    """Whether it may run; the other of two waits for whoever is at work."""
    try:
        return parked_messages.admit(one) is not None
    except parked_messages.RunningElsewhere:
        return False


def test_two_deliveries_of_one_entry_give_one_turn(task: PausableTask):
    hold()
    parked_messages.admit(delivery(task))
    release()
    first = returned(task)
    entry = PauseQueueEntry.objects.get()
    second = delivery(task, **{"pause-entry": f"{entry.pk}.1"})
    rounds = 20
    start = threading.Barrier(2)

    def settle(one: Delivery) -> list[bool]:
        connection.ensure_connection()
        ran = []
        try:
            for _ in range(rounds):
                start.wait(20)
                ran.append(starts(one))
                if start.wait(20) == 0:
                    RunningTask.objects.all().delete()
                    PauseQueueEntry.objects.update(confirmed_at=None)
        finally:
            connection.close()
        return ran

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(settle, [first, second])

    assert [a + b for a, b in zip(one, other, strict=True)] == [1] * rounds


def test_a_message_kept_while_its_hold_is_released_is_sent_on(task: PausableTask):
    hold()
    is_kept, may_commit = threading.Event(), threading.Event()

    def keep() -> None:
        try:
            with transaction.atomic():
                assert parked_messages.admit(delivery(task)) is None
                is_kept.set()
                may_commit.wait(20)
        finally:
            connection.close()

    def let_go() -> None:
        try:
            release()
        finally:
            connection.close()

    keeper = threading.Thread(target=keep)
    releaser = threading.Thread(target=let_go)
    keeper.start()
    assert is_kept.wait(20)
    releaser.start()
    releaser.join(1)
    may_commit.set()
    keeper.join(20)
    releaser.join(20)

    assert not Hold.objects.active().exists()
    assert len(messages(QUEUE)) == 1, "whoever released it saw it, or it would not have been kept"


@pytest.mark.usefixtures("watching")
def test_a_task_with_needs_waits_for_room_and_counts_as_load(needy: PausableTask):
    full()
    assert parked_messages.admit(delivery(needy)) is None
    entry = PauseQueueEntry.objects.get()
    assert (entry.waits_for, entry.needs["cpu"]) == ("capacity", 1)
    assert "has 0 of 8 cores free" in entry.reason
    redispatch.reconcile()
    assert manager.poll().sent == 0

    node()
    assert manager.poll().sent == 1
    assert [load.ref for load in workloads.allocations_by_node()[None]] == [entry.ref], "sent, and not placed yet"
    turn = parked_messages.admit(returned(needy))

    assert turn is not None
    assert [load.needs.cpu for load in workloads.allocations_by_node()[host_name()]] == [1]
    confirmations.finished([turn.id])
    assert workloads.allocations_by_node() == {}


@pytest.mark.usefixtures("watching")
def test_after_a_hold_what_has_needs_waits_for_room_too(needy: PausableTask):
    full()
    hold()
    assert parked_messages.admit(delivery(needy)) is None

    release()
    assert manager.poll().sent == 0
    assert messages(QUEUE) == []

    node()
    assert manager.poll().sent == 1
    assert parked_messages.admit(returned(needy)) is not None


@pytest.mark.usefixtures("watching")
def test_what_an_operator_forces_on_is_not_kept_for_want_of_room(needy: PausableTask):
    full()
    parked_messages.admit(delivery(needy))
    assert manager.force_resume(PauseQueueEntry.objects.get().pk, actor=OPERATOR, reason="now")

    assert parked_messages.admit(returned(needy)) is not None


def test_a_task_of_a_silent_machine_is_given_up_and_its_message_sent_again(task: PausableTask):
    type(task).acks_late = True
    hold()
    parked_messages.admit(delivery(task))
    release()
    first = returned(task)
    assert parked_messages.admit(first) is not None
    RunningTask.objects.update(owner="elsewhere/pid:[1]/1/1")
    redispatch.reconcile()
    assert messages(QUEUE) == [], "it was heard of a moment ago"
    assert not running_tasks.running()[0].is_stale

    RunningTask.objects.update(heartbeat_at="2020-01-01T00:00:00Z")
    assert running_tasks.running()[0].is_stale
    redispatch.reconcile()

    assert not RunningTask.objects.exists()
    second = returned(task)
    assert parked_messages.admit(first) is None, "the broker delivers the first one after all"
    assert parked_messages.admit(second) is not None


def test_broadcasts_and_control_messages_are_not_kept(task: PausableTask):
    everybody = Broadcast("everybody")
    current_app.amqp.queues.add(everybody)
    try:
        for exchange, routing_key in (("everybody", ""), ("", "control"), (None, None)):
            message = Message(delivery_info={"exchange": exchange, "routing_key": routing_key})
            assert queue_of_message(current_app, message) in (None, "control")
        assert delivery(task, "anything").queue == "anything"
    finally:
        del current_app.amqp.queues[everybody.name]


def test_answered_messages_are_forgotten_in_time(task: PausableTask):
    hold()
    parked_messages.admit(delivery(task))
    parked_messages.admit(delivery(task))
    release()
    answered, open_one = PauseQueueEntry.objects.order_by("pk")
    old = "2020-01-01T00:00:00Z"
    PauseQueueEntry.objects.filter(pk=answered.pk).update(confirmed_at=old, finished_at=old)

    assert writer.forget() == 1

    assert list(PauseQueueEntry.objects.all()) == [open_one]
