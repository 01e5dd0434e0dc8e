"""What a node's watch keeps between samples, polls and samplers, and how trouble moves its threshold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from automation import leases
from automation.dispatch import admission
from automation.errors import NoRoom
from automation.models import AutomationRun, Ticket
from automation.pipeline import get_pipeline
from automation.runs import reconciler
from pause_manager import manager, nodes, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation
from pause_manager.models import ControlEvent, PauseQueueEntry, WorkerNode
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import threshold
from pause_manager.pause_queue.admission import open_admission
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.worker.node_monitor import NodeMonitor
from tests.support.factories import OPERATOR, make_run, run_loop, stage_of, tickets
from tests.support.pipelines import scripted
from tests.support.sampled_fleet import HERE, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]

_refs = itertools.count(1)


class Machine:
    """Samples of one machine, a second apart, as its sampler hands them to the watch."""

    def __init__(self, watch: NodeMonitor, ahead: float = 0.0) -> None:
        self.watch = watch
        self.now = database_seconds() + ahead

    def sees(self, seconds: int, **view: Any) -> None:
        for _ in range(seconds):
            self.now += 1
            self.watch._keep_due = 0.0
            self.watch(replace(node(**{"cores": 8, **_given(view)}), sampled_at=self.now, **_rest(view)), True)


def _given(view: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in view.items() if name != "oom_kills"}


def _rest(view: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in view.items() if name == "oom_kills"}


@contextmanager
def carrying(*refs: str, cpu: float) -> Iterator[None]:
    """This node carries loops of ours that started long ago."""

    class Carried(workloads.Workload):
        def allocations(self, node: str | None) -> Iterator[tuple[str | None, Allocation]]:
            for ref in refs:
                yield HERE, Allocation(ref, Needs(cpu=cpu), 0.0)

    carried = workloads.register(Carried())
    try:
        yield
    finally:
        workloads.unregister(carried)


def events(action: str) -> list[ControlEvent]:
    return list(ControlEvent.objects.filter(action=action, scope=f"node:{HERE}").order_by("pk"))


def wait(cpu: float) -> None:
    manager.pause_work(
        [WithheldDispatch(f"import:{next(_refs)}", "others.work", "control", Needs(cpu=cpu))], reason="full"
    )


@pytest.mark.req("P-36", "P-39")
def test_how_far_strangers_swung_is_kept_for_polls_and_admissions_and_outlives_the_sampler():
    node(cores=10, foreign=4)
    wait(cpu=5.5)
    Machine(NodeMonitor()).sees(8, cores=10, foreign=5)
    Machine(NodeMonitor(), ahead=8).sees(3, cores=10, foreign=4)

    assert manager.poll().sent == 0, "6 cores are free, and strangers were at 5 of 10 a moment ago"
    desk = open_admission()
    assert desk is not None
    assert (desk.reserve(Needs(cpu=5.5), 1), desk.reserve(Needs(cpu=5), 1)) == (0, 1)

    WorkerNode.objects.update(policy_state={})
    assert manager.poll().sent == 1, "without that memory it would have gone"


def test_the_cooldown_outlives_the_sampler():
    machine = Machine(NodeMonitor())
    with carrying("slice:1", cpu=6):
        machine.sees(7, foreign=4)
    machine = Machine(NodeMonitor(), ahead=7)
    machine.sees(2)
    wait(cpu=1)

    assert [event.details["yields"][0]["ref"] for event in events("yield_wanted")] == ["slice:1"]
    assert manager.poll().sent == 0, "it takes nothing that was parked for 15 s"
    WorkerNode.objects.update(policy_state={})
    assert manager.poll().sent == 1


def test_what_is_left_to_strangers_who_lately_used_more_is_named():
    machine = Machine(NodeMonitor())
    machine.sees(15, cores=2, foreign=1.5)
    machine.sees(3, cores=2, foreign=0.95)

    run = make_run()

    entry = PauseQueueEntry.objects.waiting().get(ref=run.scope)
    beside = (
        f"on top of work already sent (0.2 cores of {HERE} are reserved for other processes that recently used more)"
    )
    assert entry.reason.startswith(f"No node has room for 1 core {beside}: {HERE} has 1.05 of 2 cores free")


def test_a_node_that_strangers_have_only_left_takes_nothing_new_and_says_until_when():
    machine = Machine(NodeMonitor())
    machine.sees(1, foreign=8)
    machine.sees(5)

    run = make_run()

    entry = PauseQueueEntry.objects.waiting().get(ref=run.scope)
    assert f"({HERE} must stay 30% free for 15 s first): {HERE} has 8 of 8 cores free." in entry.reason
    machine.sees(11)
    assert manager.poll().sent == 1


def test_an_operators_threshold_is_what_the_node_is_judged_by():
    node()
    nodes.set_threshold(HERE, 0.5, actor=OPERATOR)

    Machine(NodeMonitor()).sees(1, foreign=5)

    (event,) = events("node_saturated")
    assert "it stops below 50% and resumes at 60% (its own threshold)." in event.reason


@pytest.fixture
def adaptive(settings: Any) -> None:
    given = settings.PAUSE_MANAGER
    settings.PAUSE_MANAGER = {**given, "policy": {**given["policy"], "adaptive": {"enabled": True}}}
    threshold._looked_at.clear()
    threshold._told_at.clear()


def look_again() -> None:
    threshold._looked_at.clear()


@pytest.mark.req("P-29")
@pytest.mark.usefixtures("adaptive")
def test_repeated_contention_raises_the_threshold_and_every_decision_says_why():
    machine = Machine(NodeMonitor())
    machine.sees(1)
    for number in (1, 2):
        with carrying(f"slice:{number}", cpu=6):
            machine.sees(7, foreign=4)
        machine.sees(2)
        look_again()
        machine.sees(1)
        assert len(events("threshold_moved")) == number - 1

    (event,) = events("threshold_moved")
    why = event.reason
    assert why.startswith("raised after 2 contentions within ")
    assert why.endswith(": from 20% to 25%")
    figures = {"from": 0.2, "to": 0.25, "contentions": 2, "out_of_memory": 0}
    assert {name: event.details[name] for name in figures} == figures
    (view,) = nodes.live_nodes()
    assert view.threshold_moved_by == 0.05
    node(cores=100, foreign=76)
    assert manager.should_pause(Needs()).sentence.endswith(
        f"has 24 of 100 cores free, 1 core needed; new work starts there only with 25 cores free ({why})."
    )
    node(cores=100, foreign=75)
    assert not manager.should_pause(Needs()).should_pause


@pytest.mark.req("P-29")
@pytest.mark.usefixtures("adaptive")
def test_an_operators_own_threshold_wins_over_the_adapted_one():
    machine = Machine(NodeMonitor())
    machine.sees(1, oom_kills=0)
    machine.sees(1, oom_kills=1)
    look_again()
    machine.sees(1, oom_kills=1)
    assert nodes.live_nodes()[0].threshold_moved_by == 0.05

    nodes.set_threshold(HERE, 0.1, actor=OPERATOR)

    node(cores=100, foreign=90)
    assert not manager.should_pause(Needs()).should_pause
    node(cores=100, foreign=91)
    assert manager.should_pause(Needs()).sentence.endswith("only with 10 cores free (its own threshold).")


@pytest.mark.req("P-29")
@pytest.mark.usefixtures("adaptive")
def test_a_killed_process_is_told_once_and_raises_the_threshold_whoever_samples():
    machine = Machine(NodeMonitor())
    machine.sees(2, oom_kills=3)
    assert events("out_of_memory") == [], "what was before is no news"
    machine = Machine(NodeMonitor(), ahead=2)
    machine.sees(2, oom_kills=5)
    look_again()
    machine.sees(2, oom_kills=5)

    (event,) = events("out_of_memory")
    assert event.reason == "The kernel killed 2 processes of the workers' control group for want of memory."
    (moved,) = events("threshold_moved")
    assert "raised after 1 out of memory" in moved.reason


@pytest.mark.req("P-29")
@pytest.mark.usefixtures("adaptive")
def test_a_loop_that_runs_out_of_memory_is_told_of_its_node():
    node()
    run = make_run("scripted", items=8)

    def fails(item: Any, ctx: Any) -> None:
        raise MemoryError("cannot allocate")

    with scripted(fails):
        run_loop(run)

    (event,) = events("out_of_memory")
    assert event.reason == "A loop of scripted ran out of memory: MemoryError: cannot allocate"
    assert event.details["needs"]["cpu"] == 1.0


@pytest.mark.req("P-29")
def test_without_the_adaptive_mode_nothing_moves():
    machine = Machine(NodeMonitor())
    machine.sees(1, oom_kills=0)
    machine.sees(1, oom_kills=1)
    look_again()
    machine.sees(2, oom_kills=1)

    assert (events("threshold_moved"), nodes.live_nodes()[0].threshold_moved_by) == ([], 0.0)
    assert not PauseQueueEntry.objects.exists()


def start(run: AutomationRun, name: str) -> bool:
    """A loop of the run starts here, if there is room."""
    stage_run = stage_of(run)
    stage = get_pipeline(run.pipeline).stage(stage_run.slug)
    room = partial(admission.room_here, needs=stage.needs, pipeline=run.pipeline)
    here = leases.Worker(f"test/{name}", HERE)
    try:
        return bool(leases.claim(stage_run.pk, here, room=room))
    except NoRoom:
        return False


@pytest.mark.req("P-04", "P-36")
@pytest.mark.parametrize("cores", [1, 2])
def test_on_a_small_machine_noise_keeps_no_loop_from_starting_and_makes_none_yield(cores):
    node(cores=cores, foreign=0.1)
    run = make_run("few", items=10)

    assert tickets(run) == cores
    Ticket.objects.all().delete()
    started = [start(run, str(number)) for number in range(cores + 1)]
    machine = Machine(NodeMonitor())
    for foreign in (0.05, 0.2, 0.24) * 10:
        machine.sees(1, cores=cores, foreign=foreign)
    reconciler.reconcile()

    assert started == [*[True] * cores, False]
    assert events("yield_wanted") == []
    assert events("node_saturated") == []
    assert not PauseQueueEntry.objects.exists()
    machine.sees(8, cores=cores, foreign=0.5)
    assert len(events("yield_wanted")) == 1, "more than noise"
