"""What is left of a node."""

from __future__ import annotations

import pytest

from pause_manager.capacity import Policy, can_ever_run, fits, headroom, share
from pause_manager.capacity.needs import Needs
from tests.support.node_views import NOW, allocation, gpu, node


def left(view, needs):
    found = share(view, needs, NOW)
    assert found
    return tuple(found)


def test_cpu_room_is_cores_less_strangers_less_what_we_declared():
    view = node(cores=8, foreign=2.5, allocations=[allocation("r", cpu=3)])

    assert headroom(view, NOW).cpu_millicores == 2500


@pytest.mark.req("P-04")
def test_the_scarcest_needed_resource_decides():
    view = node(cores=8, foreign=2, free=6_400, gpus=[gpu(free=12_000)])

    assert left(view, Needs(cpu=1))[0] / 8000 == 0.75
    assert left(view, Needs(cpu=1, gpu_memory_mib=1)) == (12_000, 24_000, "gpu_memory")
    assert left(view, Needs(cpu=1, memory_mib=1)) == (6_400, 64_000, "memory")


def test_cpu_work_ignores_a_lost_gpu_and_gpu_work_never_goes_there():
    view = node(gpus=[gpu(problem="fell off the bus")])

    assert left(view, Needs())[:2] == (8000, 8000)
    assert share(view, Needs(gpu_memory_mib=1), NOW) is None
    assert not fits(view, Needs(gpu_memory_mib=1), NOW)


@pytest.mark.parametrize("unknown", [gpu(free=None), gpu(problem="driver silent")])
def test_an_unknown_gpu_is_not_a_free_one(unknown):
    assert not fits(node(gpus=[unknown]), Needs(gpus=1), NOW)


def test_declared_memory_that_the_sensor_does_not_show_yet_is_taken():
    quiet = allocation("r", gpu_memory_mib=14_000, gpus=[0], started_at=NOW - 30)

    before = headroom(node(gpus=[gpu(free=24_000)], allocations=[quiet]), NOW)
    halfway = headroom(node(gpus=[gpu(free=18_000, own_mib=6_000)], allocations=[quiet]), NOW)
    shown = headroom(node(gpus=[gpu(free=10_000, own_mib=14_000)], allocations=[quiet]), NOW)

    assert [view.gpus[0].free_mib for view in (before, halfway, shown)] == [10_000, 10_000, 10_000]


def test_an_older_load_that_uses_too_much_does_not_hide_a_dispatch_just_sent():
    greedy = allocation("old", gpu_memory_mib=4_000, gpus=[0], started_at=0)
    sent = allocation("new", gpu_memory_mib=8_000, gpus=[0], started_at=NOW, is_sent=True)
    view = node(gpus=[gpu(free=12_000, own_mib=12_000)], allocations=[greedy, sent])

    assert headroom(view, NOW).gpus[0].free_mib == 4_000


def test_memory_that_cannot_be_told_apart_is_not_counted_twice_for_ever():
    view = node(
        gpus=[gpu(free=10_000, own_mib=0)], allocations=[allocation("r", gpu_memory_mib=14_000, gpus=[0], started_at=0)]
    )

    assert headroom(view, 30.0, Policy(sensor_lag_seconds=60)).gpus[0].free_mib == -4_000
    assert headroom(view, 90.0, Policy(sensor_lag_seconds=60)).gpus[0].free_mib == 10_000


def test_a_gpu_without_a_figure_is_taken_whole():
    view = node(gpus=[gpu(0, own_mib=0), gpu(1)], allocations=[allocation("r", gpus=[0])])

    assert headroom(view, NOW).gpus_for(Needs(gpus=1)) == ("GPU-1",)
    assert headroom(view, NOW).gpus_for(Needs(gpus=2)) is None


def test_a_load_takes_the_fullest_gpu_it_fits_on():
    view = node(gpus=[gpu(0), gpu(1, free=9_000), gpu(2, free=2_000)])

    assert headroom(view, NOW).gpus_for(Needs(gpu_memory_mib=8_000)) == ("GPU-1",)


def test_only_totals_say_whether_a_node_can_ever_run_something():
    full = node(cores=8, foreign=8, gpus=[gpu(free=0)])

    assert can_ever_run(full, Needs(cpu=8, gpu_memory_mib=24_000))
    assert not can_ever_run(full, Needs(cpu=8.5))
    assert not can_ever_run(full, Needs(gpu_memory_mib=24_001))
    assert not can_ever_run(full, Needs(gpus=2))
    assert not can_ever_run(node(), Needs(gpus=1))
