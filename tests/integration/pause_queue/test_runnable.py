"""What would start if a worker came: what an autoscaler is told."""

from __future__ import annotations

import pytest

from automation.models import Ticket
from automation.runs import lifecycle
from pause_manager import holds, manager
from pause_manager.capacity.needs import Needs
from pause_manager.messaging import broker, broker_connection
from pause_manager.messaging.broker import BrokerAway
from pause_manager.messaging.outgoing import task_message
from pause_manager.nodes import members
from pause_manager.pause_queue import runnable
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import OPERATOR, make_run, tickets
from tests.support.sampled_fleet import messages, node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def empty_queues():
    messages("stages")
    messages("others")


def test_messages_of_open_runs_count_and_those_of_stopped_runs_do_not():
    run, other = make_run("few", items=9), make_run("few", items=9)
    assert tickets(run) == tickets(other) == 2
    assert runnable.by_queue() == {"stages": 4}

    lifecycle.pause(run.pk, actor=OPERATOR)
    assert runnable.by_queue() == {"stages": 2}

    lifecycle.cancel(other.pk, actor=OPERATOR)
    assert runnable.by_queue().get("stages", 0) == 0

    lifecycle.resume(run.pk, actor=OPERATOR)
    assert runnable.by_queue() == {"stages": tickets(run)}


@pytest.mark.parametrize("scope", ["fleet", "queue:stages"])
def test_what_is_held_asks_for_no_worker(scope: str):
    make_run("few", items=9)
    assert runnable.by_queue() == {"stages": 2}

    holds.place([scope], actor=OPERATOR, reason="night")
    assert runnable.by_queue() == {"stages": 0}

    holds.release([scope], actor=OPERATOR)
    assert runnable.by_queue()["stages"] == 2


def test_a_hold_on_a_pipeline_or_lane_stops_the_messages_of_its_runs():
    run = make_run("few", items=9)

    holds.place([f"lane:{run.lane}"], actor=OPERATOR)

    assert runnable.by_queue() == {"stages": 0}


def test_messages_of_tasks_count_in_a_queue_that_is_served():
    members.acknowledge("w@n1", node="n1", queues=["others"], version=1)
    assert runnable.by_queue() == {"others": 0}

    with broker.sender() as sender:
        sent = sender.publish(
            [
                task_message("others.work", [], {}, task_id=f"task-{number}", queue="others", headers={})
                for number in range(3)
            ]
        )

    assert [one.what for one in sent] == ["taken"] * 3
    assert runnable.by_queue() == {"others": 3}


@pytest.mark.usefixtures("watching")
def test_what_is_parked_because_no_worker_serves_its_queue_asks_for_one():
    node("n1")
    members.acknowledge("w@n1", node="n1", queues=["others"], version=1)
    manager.pause_work(
        [WithheldDispatch(f"import:{n}", "others.work", "gpu", Needs(cpu=1), work_queue="gpu") for n in range(3)],
        reason="full",
    )
    manager.poll()

    assert runnable.by_queue() == {"gpu": 3, "others": 0}
    holds.place(["queue:gpu"], actor=OPERATOR)
    assert runnable.by_queue()["gpu"] == 0


def test_a_broker_that_is_away_is_told_at_once_and_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch):
    make_run("few", items=9)
    monkeypatch.setattr(broker_connection, "_away_until", float("inf"))

    with pytest.raises(BrokerAway):
        runnable.by_queue()


def test_a_lost_message_is_no_more_than_nothing():
    run = make_run("few", items=9)
    messages("stages")
    lifecycle.pause(run.pk, actor=OPERATOR)

    assert Ticket.objects.exists()
    assert runnable.by_queue() == {"stages": 0}
