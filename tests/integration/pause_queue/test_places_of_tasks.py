"""A task that lost its worker a moment ago is no newcomer: for half a minute it has its place on that node."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from pause_manager import manager, times, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.messaging.message import Delivery
from pause_manager.models import PauseQueueEntry, RunningTask
from pause_manager.pausable import PausableTask, confirmations, parked_messages, redispatch
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.probes import processes
from pause_manager.probes.processes import host_name
from tests.integration.pausable.messages.test_settling import needy, returned, task  # noqa: F401  (fixtures)
from tests.support.deliveries import QUEUE, delivery
from tests.support.foreign_project import hold, release
from tests.support.race import race
from tests.support.sampled_fleet import full, gpu, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching"), pytest.mark.req("P-39")]


@pytest.fixture
def late(needy: PausableTask) -> PausableTask:  # noqa: F811
    type(needy).acks_late = True
    return needy


def at_work(late: PausableTask) -> RunningTask:
    """It was parked for want of room, was sent on, and runs."""
    full()
    assert parked_messages.admit(delivery(late)) is None
    node(cores=10)
    assert manager.poll().sent == 1
    assert parked_messages.admit(returned(late)) is not None
    return RunningTask.objects.get()


def never_waited(late: PausableTask) -> Delivery:
    node(cores=10)
    first = delivery(late)
    assert parked_messages.admit(first) is not None
    return first


def lose() -> None:
    """The worker of what runs is another process of this machine, which has ended."""
    owner = processes.identity()
    dead = f"{owner.rpartition('/')[0]}/1"
    assert processes.is_dead(dead)
    RunningTask.objects.update(owner=dead)


def others_wait() -> None:
    manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs(cpu=0.5))], reason="full")


def loads_here() -> list[float]:
    return [load.needs.cpu for load in workloads.allocations_by_node(host_name()).get(host_name(), ())]


def test_it_goes_on_at_once_on_its_node_though_strangers_fill_it(late: PausableTask):
    at_work(late)
    full()
    others_wait()
    lose()

    redispatch.reconcile()

    assert loads_here() == [1.0], "its room is taken meanwhile, once"
    assert [load.ref for load in workloads.allocations_by_node().get(None, ())] == [], "and is not wanted twice"
    assert parked_messages.admit(returned(late)) is not None, "no poll, no dwell, no turn"
    (row,) = RunningTask.objects.all()
    assert (row.lost_at, row.turn is not None) == (None, True)
    assert loads_here() == [1.0]


def test_what_never_waited_is_delivered_again_to_its_place(late: PausableTask):
    first = never_waited(late)
    full()
    others_wait()
    lose()

    again = delivery(late, id=first.task_id, delivery_info={"redelivered": True})
    assert parked_messages.admit(again) is not None, "before anybody has looked for lost workers, too"

    assert [row.turn for row in RunningTask.objects.all()] == [again.turn]


def test_what_is_not_known_to_be_lost_has_no_place_but_is_no_newcomer(late: PausableTask):
    first = never_waited(late)
    others_wait()
    assert parked_messages.admit(delivery(late)) is None, "a newcomer queues"

    assert parked_messages.admit(delivery(late, id=first.task_id, delivery_info={"redelivered": True})) is not None

    full()
    assert parked_messages.admit(delivery(late, id=first.task_id, delivery_info={"redelivered": True})) is None, (
        "but needs room"
    )


def test_elsewhere_it_asks_for_room_but_not_for_a_turn(late: PausableTask):
    at_work(late)
    others_wait()
    lose()
    RunningTask.objects.update(node="another")
    full()
    redispatch.reconcile()
    message = returned(late)

    assert parked_messages.admit(message) is None
    assert message.entry is not None
    entry = PauseQueueEntry.objects.get(pk=message.entry[0])
    assert entry.waits_for == PauseQueueEntry.WaitsFor.CAPACITY
    assert loads_here() == []
    assert len(workloads.allocations_by_node("another")["another"]) == 1, "its place is there still"


def test_elsewhere_it_starts_where_there_is_room(late: PausableTask):
    at_work(late)
    others_wait()
    lose()
    RunningTask.objects.update(node="another")
    redispatch.reconcile()

    assert parked_messages.admit(returned(late)) is not None
    assert workloads.allocations_by_node("another").get("another", []) == []
    assert loads_here() == [1.0]


def test_after_half_a_minute_it_waits_for_room_like_anybody(late: PausableTask):
    row = at_work(late)
    lose()
    hold(f"queue:{QUEUE}")
    redispatch.reconcile()
    assert row.entry_id is not None
    entry = PauseQueueEntry.objects.waiting().get(pk=row.entry_id)
    assert entry.waits_for == PauseQueueEntry.WaitsFor.HOLD
    RunningTask.objects.update(lost_at=F("lost_at") - timedelta(seconds=times.KEEPS_PLACE_SECONDS))
    assert loads_here() == []

    redispatch.reconcile()

    assert not RunningTask.objects.exists()
    full()
    release(f"queue:{QUEUE}")
    redispatch.reconcile()
    assert manager.poll().sent == 0
    assert PauseQueueEntry.objects.waiting().get(pk=entry.pk).waits_for == PauseQueueEntry.WaitsFor.CAPACITY


def test_a_worker_that_was_taken_for_lost_finds_its_row_no_more(late: PausableTask):
    row = at_work(late)
    turn = row.turn
    assert turn is not None
    lose()
    redispatch.reconcile()

    confirmations.finished([turn])

    assert RunningTask.objects.get().lost_at is not None, "the place is that of the next run"
    assert parked_messages.admit(returned(late)) is not None


def test_what_acknowledges_early_keeps_nothing(late: PausableTask):
    type(late).acks_late = False
    at_work(late)
    lose()

    redispatch.reconcile()

    assert not RunningTask.objects.exists()
    assert not PauseQueueEntry.objects.waiting().exists()


def test_it_has_the_cards_that_it_had(late: PausableTask):
    type(late).needs = Needs(cpu=0, gpu_memory_mib=20_000, gpus=1)
    node(gpus=(gpu(0), gpu(1)))
    first = delivery(late)
    turn = parked_messages.admit(first)
    assert turn is not None
    lose()
    redispatch.reconcile()
    rival = parked_messages.admit(delivery(late))
    assert rival is not None
    assert set(rival.gpus).isdisjoint(turn.gpus), "nobody else is given them meanwhile"

    again = parked_messages.admit(delivery(late, id=first.task_id, delivery_info={"redelivered": True}))

    assert again is not None
    assert again.gpus == turn.gpus


def test_two_deliveries_share_no_place(late: PausableTask):
    first = never_waited(late)
    full()
    lose()
    redispatch.reconcile()

    def settle() -> bool:
        return parked_messages.admit(delivery(late, id=first.task_id)) is not None

    assert sum(race(settle, settle, settle)) == 1
