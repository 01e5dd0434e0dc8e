"""Tasks with needs are asked to give way as loops are, and go on when the room is back."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import redis

from pause_manager import manager
from pause_manager.capacity.needs import Needs
from pause_manager.models import ControlEvent, PauseQueueEntry, RunningTask, WorkerNode
from pause_manager.pausable import PausableTask, parked_messages
from pause_manager.pause_queue.admission import QUEUED_BEHIND
from pause_manager.probes.sample import Sample
from pause_manager.probes.sampler_election import SamplerElection
from pause_manager.worker.node_monitor import NodeMonitor
from tests.integration.nodes.test_node_monitor import Machine, carrying, events
from tests.integration.pausable.messages.test_settling import needy, task  # noqa: F401  (fixtures)
from tests.support.deliveries import delivery
from tests.support.foreign_project import QUEUE, Foreign, hold, release, waiting
from tests.support.sampled_fleet import HERE, node
from tests.support.sampling_workers import watching  # noqa: F401  (a fixture)
from tests.support.workers import eventually

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("watching"),
    pytest.mark.timeout(240),
]

NOISY = {
    "sample_seconds": 3600.0,
    "policy": {"thresholds": {"pause_below": 0.0, "resume_above": 0.0, "cpu_slack_cores": 1000.0}},
}
"""The worker samples this machine once and finds nobody on it; what is there from then on, the test says."""


def start(one: PausableTask, priority: int, *, asks: bool = True) -> RunningTask:
    info = {"exchange": "", "routing_key": QUEUE, "priority": priority}
    turn = parked_messages.admit(delivery(one, delivery_info=info))
    assert turn is not None
    assert turn.row is not None
    RunningTask.objects.filter(pk=turn.row).update(polls_for_stop=asks)
    return RunningTask.objects.get(pk=turn.row)


def told(*tasks: RunningTask) -> list[str]:
    return [RunningTask.objects.get(pk=one.pk).stop_reason for one in tasks]


@pytest.mark.req("P-36")
def test_loops_and_tasks_give_way_in_one_order_and_what_never_asks_stays(needy: PausableTask):  # noqa: F811
    type(needy).needs = Needs(cpu=2)
    node(cores=20)
    deaf, low, urgent = start(needy, 9, asks=False), start(needy, 9), start(needy, 0)
    assert [one.priority for one in (deaf, low, urgent)] == [5, 5, 1]
    machine = Machine(NodeMonitor(), ahead=100)
    with carrying("slice:1", cpu=2):
        machine.sees(8)
        assert events("yield_wanted") == [], "own load alone makes nobody yield"

        machine.sees(8, foreign=2)
        assert told(low, urgent) == [
            f"{HERE} is overcommitted: other processes need 2.0 cores and our work reserved 8.0 cores of 8.0 cores; "
            "one piece of it yields (lowest priority first, then last started).",
            "",
        ]
        machine.sees(8, foreign=4)
        assert told(urgent) == [""]
        machine.sees(8, foreign=6)

    order = [[one["ref"] for one in event.details["yields"]] for event in events("yield_wanted")]
    assert order == [
        [f"task:{low.task_id}/{low.pk}"],
        ["slice:1"],
        [f"task:{urgent.task_id}/{urgent.pk}"],
    ]
    deaf.refresh_from_db()
    assert (deaf.polls_for_stop, deaf.stop_reason) == (False, "")


class Pieces:
    """What the patient tasks have done, from the ledger."""

    def __init__(self, foreign: Foreign) -> None:
        self.foreign = foreign

    def of(self, name: str) -> list[int]:
        return [note[2] for note in self.foreign.notes("piece") if note[1] == name]

    def starts(self, name: str) -> list[int]:
        return [note[2] for note in self.foreign.notes("patient") if note[1] == name]

    def left(self) -> list[Any]:
        return [note[1:] for note in self.foreign.notes("left")]

    def work(self, *names: str) -> bool:
        """Whether each of them gets on."""
        before = {name: len(self.of(name)) for name in names}
        return bool(eventually(lambda: all(len(self.of(name)) > before[name] for name in names), 30))


def polled(count: int) -> bool:
    """Whether polls, as beat would ask for them, have sent on so many."""
    sent = ControlEvent.objects.filter(action="sent_on")
    return bool(eventually(lambda: manager.poll() and sent.count() >= count, 30, every=0.3))


@pytest.mark.slow
@pytest.mark.req("P-20", "P-36", "P-39")
def test_a_task_leaves_for_strangers_and_its_rest_goes_on_when_they_have_gone(foreign: Foreign):
    foreign.worker("one", "-c", "4", FOREIGN_CAPACITY="1", FOREIGN_OPTIONS=json.dumps(NOISY))
    assert eventually(lambda: WorkerNode.objects.filter(name=HERE).exists(), 60), foreign.workers.said("one")[-3000:]
    SamplerElection(str(foreign.root)).tell(Sample(node(cores=8)))
    pieces = Pieces(foreign)
    deaf = foreign.send("deaf", priority=9)
    usual = foreign.send("patient", "usual")
    assert pieces.work("usual")
    urgent = foreign.send("patient", "urgent", priority=0)
    assert eventually(lambda: RunningTask.objects.filter(polls_for_stop=True).count() == 2, 30)
    assert eventually(lambda: foreign.notes("deaf"), 30)

    # In the past, so that the cooldown it leaves is over.
    machine = Machine(NodeMonitor(), ahead=-60)
    machine.sees(8, cores=8, foreign=4)

    assert waiting(1), foreign.workers.said("one")[-3000:]
    ((name, piece, reason),) = pieces.left()
    told = "other processes need 4.0 cores and our work reserved 6.0 cores of 8.0 cores; one piece of it yields"
    assert (name, told in reason) == ("usual", True)
    entry = PauseQueueEntry.objects.waiting().get()
    assert (entry.ref, entry.waits_for, entry.reason) == (f"task:{usual}", "capacity", reason)
    assert {row.task_id for row in RunningTask.objects.all()} == {deaf, urgent}
    assert pieces.work("urgent"), "just enough have gone"

    late = foreign.send("patient", "late")
    assert waiting(2)
    assert PauseQueueEntry.objects.waiting().get(ref=f"task:{late}").reason == QUEUED_BEHIND
    assert manager.poll().sent == 0, "strangers are still there"
    assert pieces.starts("late") == []

    machine.sees(1, cores=8)
    assert polled(1)
    assert pieces.work("usual")
    assert pieces.starts("usual") == [0, piece], "from where it left"
    assert pieces.starts("late") == [], "there is no room for it yet"

    hold(mode="quiesce")
    assert waiting(3), foreign.workers.said("one")[-3000:]
    assert sorted(note[0] for note in pieces.left()[1:]) == ["urgent", "usual"]
    assert all(note[2] == "operator hold: upgrade" for note in pieces.left()[1:])
    release()
    assert polled(3)
    assert pieces.work("urgent", "usual")

    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        store.set("enough", 1)
    assert foreign.ended(deaf) == ["SUCCESS", "done"]
    assert polled(4)
    for name, sent in {"urgent": urgent, "usual": usual, "late": late}.items():
        state, count = foreign.ended(sent)
        assert (state, pieces.of(name)) == ("SUCCESS", list(range(count))), "each piece once"
    assert len(foreign.notes("deaf")) == 1
    assert eventually(lambda: not RunningTask.objects.exists())
