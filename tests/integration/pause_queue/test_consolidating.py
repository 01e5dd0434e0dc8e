"""Large work waits, small loops and tasks are in its way on every node: one node is made free, by moving what fits."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from automation import gate, leases
from automation.dispatch.admission import room_here
from automation.errors import NoRoom
from automation.items.leased_slice import LeasedSlice
from automation.leases.holders import Worker
from automation.models import AutomationRun, StageRun, Ticket
from automation.models.work import WorkSlice
from automation.pipeline import Pipeline, register
from pause_manager import manager, nodes
from pause_manager.capacity import Policy
from pause_manager.capacity.needs import Needs
from pause_manager.holds.stops import Stop
from pause_manager.models import ControlEvent, PauseQueueEntry, PollState, RunningTask
from pause_manager.nodes import members
from pause_manager.pause_queue import outlook
from pause_manager.pause_queue.ramp import Ramp
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import make_run, stage_of, tickets
from tests.support.pipelines import Echo
from tests.support.sampled_fleet import deliver, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]

LONG = Policy().consolidate_after_seconds


class Small(Echo):
    slug = "small"
    title = "Small"
    slice_size = 5


class Whole(Echo):
    slug = "whole"
    title = "Needs a whole node"
    needs = Needs(cpu=8)


@register
class SmallWork(Pipeline):
    slug = "small-work"
    title = "Small work"
    stages = (Small,)


@register
class LargeWork(Pipeline):
    slug = "large-work"
    title = "Large work"
    stages = (Whole,)


@pytest.fixture(autouse=True)
def two_nodes(watching: None) -> None:
    for name in ("n1", "n2"):
        sampled(name)


def sampled(name: str) -> None:
    node(name)
    members.acknowledge(
        f"w@{name}", node=name, queues=("stages", "control", "tasks"), version=1, owner=f"owner of {name}"
    )


def small_on(name: str, item_seconds: float) -> tuple[AutomationRun, LeasedSlice]:
    """A run of small work that has been at work on the node ``name`` for two minutes."""
    run = make_run("small-work")
    work = claimed(run, name)
    assert work is not None
    WorkSlice.objects.filter(pk=work.slice_id).update(processed=4, busy_seconds=4 * item_seconds)
    StageRun.objects.filter(run=run).update(started_at=Now() - timedelta(minutes=2))
    return run, work


def claimed(run: AutomationRun, name: str, *, asks: bool = False) -> LeasedSlice | None:
    stage = stage_of(run)
    needs = LargeWork.stages[0].needs if run.pipeline == "large-work" else Small.needs
    room = partial(room_here, needs=needs, pipeline=run.pipeline, sample=nodes.latest(name)) if asks else None
    worker = Worker(owner=f"test/{name}/{run.pk}", node=name)
    return leases.claim(stage.pk, worker, room=room)


def large() -> AutomationRun:
    """A run that has waited for a whole node for as long as it takes until room is made for it."""
    run = make_run("large-work")
    waited(LONG)
    return run


def waited(seconds: float) -> None:
    PauseQueueEntry.objects.update(paused_at=F("paused_at") - timedelta(seconds=seconds))


def tried_again(ramp: dict[str, Any]) -> None:
    """What waits has not been looked at for as long as it takes until it is tried again."""
    every = Policy().consolidate_every_seconds
    PollState.objects.update(ramp={**ramp, "polled_at": ramp["polled_at"] - every})


def ramp() -> Ramp:
    return Ramp.of_dict(PollState.objects.get().ramp)


def asked(run: AutomationRun) -> str:
    return WorkSlice.objects.leased().get(stage_run__run=run).lease_yield


def actions(action: str) -> list[ControlEvent]:
    return list(ControlEvent.objects.filter(action=action).order_by("pk"))


def test_a_loop_moves_and_the_large_run_gets_the_node_that_is_kept_for_it():
    (first, work), (second, _) = small_on("n1", 2.5), small_on("n2", 10)
    run = large()
    assert PauseQueueEntry.objects.waiting().get().ref == run.scope

    assert manager.poll().sent == 0

    why = (
        "n1 is kept free for larger work, which needs 8 cores and fits on no node as it is; "
        "one piece of work moves away: there is room on n2."
    )
    assert (asked(first), asked(second)) == (why, "")
    stop = leases.heartbeat(work)
    assert stop == Stop("yield", why)

    (kept,) = actions("node_kept")
    assert (kept.scope, kept.reason) == ("node:n1", why)
    (move,) = kept.details["moves"]
    assert (move["ref"], move["fits_on"], move["repeats_seconds"]) == (f"slice:{work.slice_id}", "n2", 2.5)
    (runner_up,) = kept.details["runners_up"]
    assert runner_up["node"] == "n2"
    assert kept.details["waits"]["ref"] == run.scope
    assert [event.scope for event in actions("moved")] == [first.scope]

    # Both sides say it.
    first.refresh_from_db()
    run.refresh_from_db()
    (told,) = gate.explain(first)
    assert (told.code, told.sentence) == (gate.GIVES_WAY, f"Work of it on n1 is to leave: {why}")
    assert gate.may_start(first)
    (waits,) = gate.explain(run)
    assert "One piece of work was asked 0 s ago to move from n1, which is kept free for it." in waits.sentence

    # It leaves, and may not come back while the node is kept.
    leases.release(work)
    with pytest.raises(NoRoom, match="kept free"):
        claimed(first, "n1", asks=True)
    assert claimed(first, "n2", asks=True) is not None

    assert manager.poll().sent == 1
    assert ramp().making == ()
    assert ramp().kept["n1"].until is not None, "kept until the large work has started"
    deliver()
    assert tickets(run) > 0
    newcomer = make_run("small-work")
    with pytest.raises(NoRoom, match="kept free"):
        claimed(newcomer, "n1", asks=True)
    assert claimed(run, "n1", asks=True) is not None


def test_nothing_of_a_run_moves_twice_within_the_cooldown_and_that_outlives_the_process():
    first, work = small_on("n1", 2.5)
    small_on("n2", 10)
    large()
    manager.poll()
    assert [piece for piece, _ in ramp().moved] == [first.scope]
    WorkSlice.objects.filter(pk=work.slice_id).update(lease_yield="")
    moved = ramp().as_dict()["moved"]

    def polled_later(moved: dict[str, float]) -> None:
        """Another poll, which is to try again, with nothing kept yet."""
        before = ramp().as_dict()
        before |= {"making": [], "held_for": {}, "moved": moved}
        tried_again(before)
        manager.poll()

    polled_later(moved)
    assert asked(first) == "", "the other one moves"
    assert len(actions("moved")) == 2
    polled_later({piece: at - Policy().move_cooldown_seconds for piece, at in moved.items()})
    assert asked(first) != ""


def test_a_task_is_asked_like_a_loop_and_counts_all_that_it_has_done():
    task = task_on("n1", seconds=120)
    long_one = task_on("n2", seconds=Policy().move_repeats_seconds + 60)
    manager.pause_work(
        [WithheldDispatch("import:7", "others.work", "tasks", Needs(cpu=8), work_queue="tasks")], reason="full"
    )
    waited(LONG)

    manager.poll()

    task.refresh_from_db()
    long_one.refresh_from_db()
    assert task.stop_reason.startswith("n1 is kept free for larger work, which needs 8 cores")
    assert long_one.stop_reason == "", "it might have to begin anew"
    (kept,) = actions("node_kept")
    assert kept.details["repeats_seconds"] == pytest.approx(120, abs=30)
    assert [event.scope for event in actions("moved")] == [f"task:{task.task_id}"]
    now = outlook.of_ref("import:7")
    assert now is not None
    assert now.code == "making_room"


def task_on(name: str, *, seconds: float) -> RunningTask:
    return RunningTask.objects.create(
        task_id=f"id-{name}",
        task_name="others.work",
        queue="tasks",
        node=name,
        worker=f"w@{name}",
        owner=f"owner of {name}",
        acks_late=False,
        needs={"cpu": 1.0},
        polls_for_stop=True,
        started_at=Now() - timedelta(seconds=seconds),
    )


def test_nothing_moves_to_where_nobody_serves_its_queue():
    task = task_on("n1", seconds=120)
    node("n2", foreign=4)
    for name, queues in (("n1", ("tasks", "big")), ("n2", ("big",))):
        members.acknowledge(f"w@{name}", node=name, queues=queues, version=1, owner=f"owner of {name}")
    manager.pause_work(
        [WithheldDispatch("import:7", "others.work", "big", Needs(cpu=8), work_queue="big")], reason="full"
    )
    waited(LONG)

    manager.poll()
    task.refresh_from_db()
    assert (task.stop_reason, actions("node_kept")) == ("", [])

    members.acknowledge("w@n2", node="n2", queues=("big", "tasks"), version=1, owner="owner of n2")
    tried_again(PollState.objects.get().ramp)
    manager.poll()
    task.refresh_from_db()
    assert task.stop_reason != ""


@pytest.mark.parametrize(("resume_above", "is_asked"), [(0.5, False), (0.3, True)])
def test_what_would_not_go_on_elsewhere_by_its_own_policy_stays(settings: Any, resume_above: float, is_asked: bool):
    settings.PAUSE_MANAGER = {
        **settings.PAUSE_MANAGER,
        "pipeline_policies": {"small-work": {"thresholds": {"pause_below": 0.2, "resume_above": resume_above}}},
    }
    run, _ = small_on("n1", 2.5)
    Ticket.objects.all().delete()
    node("n2", foreign=5)
    large()

    manager.poll()

    assert (asked(run) != "") is is_asked, "n2 has three of eight cores free"


def test_what_an_agent_has_stays():
    """It comes by itself: nothing sends its work to where the policy found room."""
    run = make_run("remote")
    work = leases.claim(stage_of(run).pk, Worker("agent:a", "n1"))
    assert work is not None
    WorkSlice.objects.filter(pk=work.slice_id).update(processed=4, busy_seconds=4)
    StageRun.objects.filter(run=run).update(started_at=Now() - timedelta(minutes=2))
    node("n2", foreign=1)
    large()

    manager.poll()

    assert (asked(run), actions("node_kept")) == ("", [])


@pytest.mark.parametrize("policy", [{"consolidation": {"enabled": False}}, {}])
def test_it_is_off_by_one_setting(settings: Any, policy: dict[str, Any]):
    settings.PAUSE_MANAGER = {
        **settings.PAUSE_MANAGER,
        "policy": {**settings.PAUSE_MANAGER.get("policy", {}), **policy},
    }
    first, _ = small_on("n1", 2.5)
    small_on("n2", 10)
    large()

    manager.poll()

    assert (asked(first) == "") == bool(policy)
    assert bool(actions("node_kept")) == (not policy)
