"""Containers of one machine: what each has left, and what a worker in one of them may take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pause_manager import capacity
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import Allocation, ContainerView, GpuView, NodeView, WorkerGroup

NOW = 1_000.0
ANY = Policy(pause_below=0.0, resume_above=0.0)


def machine(*containers: ContainerView, allocations: tuple[Allocation, ...] = (), **view: object) -> NodeView:
    given = {"cores": 8.0, "foreign_cores": 0.0, "memory_mib": 16_000, "free_memory_mib": 16_000, **view}
    return NodeView("n1", NOW, containers=containers, allocations=allocations, **given)  # type: ignore[arg-type]


def small(key: str, cores: float | None = 2.0, **view: object) -> ContainerView:
    return ContainerView(key, key, cores=cores, **view)  # type: ignore[arg-type]


def allocation(container: str, **needs: float) -> Allocation:
    return Allocation("slice:1", Needs(**needs), NOW - 60, container=container)  # type: ignore[arg-type]


def test_work_that_no_container_can_hold_never_fits_however_much_they_have_together():
    node = machine(small("a"), small("b"), cores=4.0)

    assert not capacity.can_ever_run(node, Needs(cpu=3))
    assert capacity.should_pause([node], Needs(cpu=3), ANY, NOW).code == "no_eligible_node"
    assert capacity.can_ever_run(replace(node, containers=(small("a"), small("b", None))), Needs(cpu=3))


def test_as_many_fit_as_the_containers_have_room_for():
    node = machine(small("a"), small("b"), cores=4.0)
    assert capacity.how_many_fit([node], Needs(cpu=1.5), 9, ANY, NOW) == 2, "not the 2.67 of four cores"
    assert capacity.how_many_fit([node], Needs(cpu=1), 9, ANY, NOW) == 4

    one_is_full = replace(node, allocations=(allocation("a", cpu=2),))
    assert capacity.how_many_fit([one_is_full], Needs(cpu=1.5), 9, ANY, NOW) == 1
    assert capacity.place([one_is_full], Needs(cpu=2), ANY, NOW) is not None


def test_a_worker_may_take_what_its_own_container_has_left():
    node = machine(small("a"), small("b", None), allocations=(allocation("a", cpu=2),))

    assert capacity.place([capacity.within(node, "a")], Needs(cpu=1), ANY, NOW) is None
    assert capacity.place([capacity.within(node, "b")], Needs(cpu=6), ANY, NOW) is not None
    assert capacity.place([capacity.within(node, "b")], Needs(cpu=7), ANY, NOW) is None, "the machine has 6 left"


def test_declared_memory_counts_in_the_container_that_has_it():
    tight = small("a", None, memory_mib=4_000, free_memory_mib=3_900, own_memory_mib=100)
    node = machine(tight, small("b", None), allocations=(allocation("a", memory_mib=3_000),))

    assert capacity.place([capacity.within(node, "a")], Needs(memory_mib=1_500), ANY, NOW) is None
    assert capacity.place([capacity.within(node, "b")], Needs(memory_mib=1_500), ANY, NOW) is not None


def test_strangers_in_the_control_group_take_of_its_cores():
    node = machine(small("a", 4.0, foreign_cores=3.0), small("b", None))

    assert capacity.place([capacity.within(node, "a")], Needs(cpu=2), ANY, NOW) is None


@pytest.mark.parametrize("key", ["a", "b"])
def test_a_worker_gets_the_cards_that_its_container_sees(key: str):
    cards = tuple(
        GpuView(index=number, total_mib=8_000, free_mib=8_000, uuid=f"GPU-{name}") for number, name in enumerate("ab")
    )
    node = machine(*(small(name, None, gpus=(f"GPU-{name}",), gpu_numbers=(0,)) for name in "ab"), gpus=cards)

    seen = capacity.within(node, key)

    assert [gpu.uuid for gpu in seen.gpus] == [f"GPU-{key}"]
    assert capacity.place([seen], Needs(gpus=2), ANY, NOW) is None
    assert capacity.how_many_fit([node], Needs(gpus=1), 9, ANY, NOW) == 2
    assert capacity.place([node], Needs(gpus=2), ANY, NOW) is None, "nobody there sees both"


def test_a_container_that_the_sample_does_not_know_has_what_the_machine_has():
    node = machine(small("a"))

    assert capacity.within(node, "new") is node


def serving(node: NodeView, **queues: str) -> NodeView:
    """The node with a worker in each of its containers, which serves this queue."""
    return replace(node, workers=tuple(WorkerGroup(frozenset({queue}), container=key) for key, queue in queues.items()))


def test_work_goes_only_where_a_container_that_serves_its_queue_can_hold_it():
    """The one that may use all of the machine does other work."""
    node = serving(machine(small("a"), small("b", None)), a="stages", b="control")

    assert capacity.place([node], Needs(cpu=3), ANY, NOW, queue="stages") is None
    assert capacity.should_pause([node], Needs(cpu=3), ANY, NOW, "stages").code == "no_eligible_node"
    assert capacity.place([node], Needs(cpu=3), ANY, NOW, queue="control") is not None
    assert capacity.how_many_fit([node], Needs(cpu=1), 9, ANY, NOW, queue="stages") == 2
    assert capacity.how_many_fit([node], Needs(cpu=1), 9, ANY, NOW) == 8, "whose queue is not known goes anywhere"


def test_workers_of_a_container_that_the_sample_does_not_know_are_in_one_of_the_others():
    """It has just come, or gone without a word: what its workers could hold, nobody can say."""
    node = serving(machine(small("a"), cores=2.0), a="control", gone="stages")

    assert capacity.how_many_fit([node], Needs(cpu=1), 9, ANY, NOW, queue="stages") == 2
    assert not capacity.can_ever_run(machine(small("a"), cores=2.0), Needs(cpu=3), "stages")
    both = serving(machine(small("a"), small("b", 1.0), cores=3.0), a="control", b="control", gone="stages")
    assert not capacity.can_ever_run(both, Needs(cpu=3), "stages")
    assert capacity.can_ever_run(both, Needs(cpu=2), "stages")


def test_what_waits_for_a_container_says_so():
    node = serving(
        machine(small("a"), small("b", None), allocations=(allocation("a", cpu=2),)), a="stages", b="control"
    )

    told = capacity.outlook([node], Needs(cpu=1), ANY, NOW, queue="stages")

    assert told.code == "does_not_fit"
    assert told.sentence == (
        "n1 has 6 of 8 cores free, 1 core needed, but no container there whose workers do this has so much left."
    )
