"""One sample of a machine from the reports of its containers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pause_manager.capacity import NodeState, Policy, judge, within
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation, GpuView, NodeView
from pause_manager.probes.container_report import Limit, Report
from pause_manager.probes.merge import MachineReading, merged, with_container
from pause_manager.probes.sample import Sample
from pause_manager.probes.sampler import Sampler

EIGHT = 0b1111_1111


def report(name: str, **given: object) -> Report:
    return Report(**{"container": f"{name}~1/boot/pid:[1]", "label": name, "cpus": EIGHT, **given})  # type: ignore[arg-type]


def sample(*reports: Report, busy: float = 0.0, queue: float | None = None) -> Sample:
    seen = MachineReading((busy / 8,) * 8, 0.0, queue, 16_000, 12_000, {})
    return merged("n1", 1.0, seen, reports)


def card(uuid: str, index: int = 0, **given: object) -> GpuView:
    return GpuView(**{"index": index, "total_mib": 8_000, "free_mib": 8_000, "uuid": uuid, **given})  # type: ignore[arg-type]


def test_our_containers_are_no_strangers_to_each_other():
    alone = sample(report("a", own_cores=1.0), busy=4.0).view
    both = sample(report("a", own_cores=1.0), report("b", own_cores=3.0), busy=4.0).view

    assert (alone.cores, alone.foreign_cores) == (8, 3), "what b burns is a stranger's as long as nobody tells"
    assert (both.cores, both.foreign_cores) == (8, 0)
    assert (both.memory_mib, both.free_memory_mib) == (16_000, 12_000), "counted once"
    assert [(one.label, one.own_cores) for one in both.containers] == [("a", 1), ("b", 3)]


@pytest.mark.parametrize("is_told", [True, False])
def test_containers_that_fill_a_machine_make_each_other_yield_only_as_long_as_they_are_strangers(is_told: bool):
    everybody = [report("a", own_cores=4.0), report("b", own_cores=4.0)]
    allocations = tuple(
        Allocation(f"slice:{n}", Needs(cpu=1), 0.0, container=f"{'ab'[n % 2]}~1/boot/pid:[1]") for n in range(8)
    )
    state, yields = NodeState(), tuple[str, ...]()
    for second in range(20):
        view = sample(*everybody[: 2 if is_told else 1], busy=8.0).view
        now = 100.0 + second
        state, judged = judge(replace(view, sampled_at=now, allocations=allocations), state, Policy(), now)
        yields = yields or judged.yields

    assert bool(yields) is not is_told


def test_limits_of_all_containers_together_bound_the_node():
    small = [report(name, cpu_limits=(Limit(name, 2.0, 0.0),)) for name in "ab"]
    assert sample(*small).view.cores == 4
    assert sample(*small, report("c")).view.cores == 8, "one without limits may use all"
    assert [one.cores for one in sample(*small, report("c")).view.containers] == [2, 2, None]

    tight = [report(name, memory_limits=(Limit(name, 3_000, 1_000),)) for name in "ab"]
    assert sample(*tight).view.memory_mib == 6_000
    assert sample(*tight).view.free_memory_mib == 4_000


def test_containers_under_one_limit_count_it_once_and_each_other_as_ours():
    """Two systemd units, or users, in one slice that is limited."""
    slice_ = Limit("4711", 2.0, 2.0)
    both = [report("a", own_cores=1.5, cpu_limits=(slice_,)), report("b", own_cores=0.5, cpu_limits=(slice_,))]

    view = sample(*both, busy=2.0).view

    assert (view.cores, view.foreign_cores) == (2, 0)
    assert [one.foreign_cores for one in view.containers] == [0, 0]
    assert sample(both[0], busy=2.0).view.foreign_cores == 0.5, "the other is a stranger while it tells nothing"


def test_a_set_of_cpus_bounds_its_container_and_the_machine_has_those_of_all():
    low, high = report("a", cpus=0b0011, own_cores=2.0), report("b", cpus=0b1100)

    view = sample(low, high, busy=4.0).view

    assert view.cores == 4
    assert [one.cores for one in view.containers] == [2, 2]
    assert view.foreign_cores == 0, "half of each of the four CPUs, which is what a uses"


def test_on_a_full_cpu_the_waiting_of_all_containers_tells_what_strangers_want():
    ours = [report("a", own_cores=3.0, wait_factor=2.0), report("b", own_cores=1.0, wait_factor=2.0)]

    full = sample(*ours, busy=8.0, queue=16.0)

    assert full.foreign_corrected_by == "run queue"
    assert full.view.foreign_cores == 8


def test_a_card_is_one_card_whoever_sees_it_and_no_two_have_one_number():
    everybody = report("a", gpus=(card("GPU-1", own_mib=100, own_processes=1), card("GPU-2", 1)))
    second = report("b", gpus=(card("GPU-2", own_mib=50, own_processes=1),))
    third = report("c", gpus=(card("GPU-3"),))

    view = sample(everybody, second, third).view

    assert [(gpu.uuid, gpu.own_mib) for gpu in view.gpus] == [("GPU-1", 100), ("GPU-3", 0), ("GPU-2", 50)]
    assert len({gpu.index for gpu in view.gpus}) == 3
    assert [one.gpus for one in view.containers] == [("GPU-1", "GPU-2"), ("GPU-2",), ("GPU-3",)]


def test_a_speaker_without_cards_does_not_hide_those_of_others():
    blind = report("a", gpu_note="no GPUs: no driver library")
    hung = report("b", gpu_problem="the driver did not answer within 2 s")
    sees = report("c", gpus=(card("GPU-1"),))

    assert sample(blind, sees).view.gpus[0].uuid == "GPU-1"
    assert sample(blind, sees).view.gpu_note == ""
    assert sample(hung, sees).view.gpu_problem == ""
    assert sample(blind, hung).view.gpu_problem.startswith("the driver")


def test_a_worker_finds_its_cards_under_the_numbers_of_its_container():
    both = sample(report("a", gpus=(card("GPU-1"),)), report("b", gpus=(card("GPU-2"), card("GPU-1", 1)))).view

    a, b = (within(both, f"{name}~1/boot/pid:[1]") for name in "ab")

    assert [(gpu.uuid, gpu.index) for gpu in a.gpus] == [("GPU-1", 0)]
    assert [(gpu.uuid, gpu.index) for gpu in b.gpus] == [("GPU-2", 0), ("GPU-1", 1)]
    assert within(sample(report("a"), report("b", gpus=(card("GPU-1"),))).view, a.containers[0].key).gpu_note


def test_a_card_without_memory_of_its_own_has_the_machine_s():
    view = sample(report("a", gpus=(card("GPU-1", is_unified=True, own_mib=500),), own_memory_mib=100)).view

    assert (view.gpus[0].total_mib, view.gpus[0].free_mib) == (16_000, 12_000)
    assert view.own_memory_mib == 600


def test_a_card_that_one_container_cannot_read_is_told_by_another():
    lost = card("GPU-1", free_mib=None, problem="the driver did not answer")

    assert sample(report("a", gpus=(lost,)), report("b", gpus=(card("GPU-1"),))).view.gpus[0].problem == ""


def test_a_report_and_a_sample_go_through_json():
    told = report(
        "a", cpu_limits=(Limit("1", 2.0, 0.5),), memory_limits=(Limit("2", 100.0, 1.0),), gpus=(card("GPU-1"),)
    )

    assert Report.of_json(told.as_json()) == told
    assert Sample.of_json(sample(told).as_json()) == sample(told)


def test_a_container_that_has_just_come_is_told_with_the_sample_of_others():
    late = report("late", cpu_limits=(Limit("1", 2.0, 0.0),))
    first = sample(report("a"))

    assert [one.label for one in with_container(first, late).view.containers] == ["a", "late"]
    assert with_container(first, late).view.containers[1].cores == 2
    assert with_container(first, report("a")) is first


def test_kills_of_before_a_container_came_are_no_news(monkeypatch: pytest.MonkeyPatch):
    sampler = Sampler(with_gpus=False)
    sampler._machine = MachineReading((0.0,) * 8, 0.0, None, 16_000, 12_000, {})

    def kills(**of: int) -> int:
        return sampler.sample("n1", [report(name, oom_kills=count) for name, count in of.items()]).view.oom_kills

    assert kills(a=2) == 2
    assert kills(a=2, b=5) == 2
    assert kills(a=3, b=6) == 4
    assert kills(b=6) == 4
    assert kills(b=7, a=0) == 5


def test_samples_of_before_have_no_containers():
    old = Sample(NodeView("n1", 1.0, 2.0, 0.0, 100, 100)).as_dict()
    del old["view"]["containers"]

    assert Sample.of_dict(old).view.containers == ()
    assert replace(Sample.of_dict(old).view).cores == 2
