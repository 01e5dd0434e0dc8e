"""GPUs are booked by UUID, whatever number the driver gives them; those without memory of their own are one pool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pause_manager.capacity import (
    NodeState,
    Policy,
    ReservationLedger,
    can_ever_run,
    headroom,
    judge,
    place,
    should_pause,
)
from pause_manager.capacity.foreign import MEMORY, usage, would_fit_alone
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.placement.sites import Site, Want
from pause_manager.capacity.snapshot import Allocation
from pause_manager.nodes.persisted_state import PersistedNodeState
from tests.support.node_views import allocation, gpu, node

NOW = 100.0
POLICY = Policy()
BIG = Needs(cpu=1, gpu_memory_mib=14_000)


def test_a_load_stays_on_its_card_when_the_numbers_move():
    here = allocation("r", gpu_memory_mib=14_000, gpus=[7], started_at=0)
    before = node(gpus=[gpu(0, uuid="GPU-0"), gpu(1, uuid="GPU-7")], allocations=[here])
    after = node(gpus=[gpu(0, uuid="GPU-7"), gpu(1, uuid="GPU-0")], allocations=[here])

    for view in (before, after):
        assert {card.id: card.free_mib for card in headroom(view, NOW).gpus} == {"GPU-0": 24_000, "GPU-7": 10_000}


def test_a_card_that_is_gone_takes_no_room_from_the_one_that_has_its_number():
    gone = gpu(0, uuid="GPU-0", free=None, problem="it is gone")
    view = node(gpus=[gone, gpu(0, uuid="GPU-1")], allocations=[allocation("r", gpu_memory_mib=14_000, gpus=[0])])

    assert [(card.id, card.free_mib) for card in headroom(view, NOW).gpus] == [("GPU-1", 24_000)]
    found = place([view], BIG, POLICY, NOW)
    assert found
    assert found.gpus == ("GPU-1",)


def test_only_loops_on_the_contended_card_yield_whatever_its_number():
    allocations = [
        allocation("here", gpu_memory_mib=16_000, gpus=[0]),
        allocation("there", gpu_memory_mib=16_000, gpus=[1], priority=5),
    ]
    cards = [gpu(0, uuid="GPU-1", free=8_000, own_mib=16_000), gpu(1, uuid="GPU-0", free=0, own_mib=10_000)]
    view, state, told = node(gpus=cards, allocations=allocations), NodeState(), list[str]()
    for second in range(12):
        state, judgement = judge(replace(view, sampled_at=NOW + second), state, POLICY, NOW + second)
        told += judgement.yields

    assert told == ["here"]


def test_what_started_before_uuids_names_an_index():
    old = Allocation("slice:1", BIG, 0.0, gpus=("1",))
    view = node(gpus=[gpu(0), gpu(1)]).carrying([old])

    assert view.allocations[0].gpus == ("GPU-1",)
    assert [card.free_mib for card in headroom(view, NOW).gpus] == [24_000, 10_000]
    nameless = node(gpus=[gpu(0, uuid=""), gpu(1, uuid="")]).carrying([old])
    assert [(card.id, card.free_mib) for card in headroom(nameless, NOW).gpus] == [("0", 24_000), ("1", 10_000)]


def test_what_was_kept_of_a_swing_before_uuids_is_read():
    kept = {
        "foreign_peak": {"since": 5.0, "before": [["cpu", -1, 3]], "latest": [["gpu_memory", 0, 9], ["memory", -1, 4]]}
    }

    foreign_peak = PersistedNodeState.of_dict(kept).state.foreign_peak

    assert (foreign_peak.before, foreign_peak.latest) == ({("cpu", ""): 3}, {("memory", ""): 4})
    assert PersistedNodeState.of_dict(PersistedNodeState.of_dict(kept).as_dict()).state.foreign_peak == foreign_peak


def pool(free=60_000, **given):
    """A machine of 64,000 MiB whose two GPUs have no memory of their own."""
    cards = [gpu(index, total=64_000, free=free, is_unified=True) for index in range(2)]
    return node(free=free, gpus=cards, **given)


def test_memory_of_the_machine_and_of_unified_gpus_is_taken_once_from_one_pool():
    ledger = ReservationLedger([pool()], replace(POLICY, pause_below=0.0), NOW)

    assert ledger.place(Needs(cpu=1, memory_mib=10_000)) is not None
    assert ledger.place(Needs(cpu=1, memory_mib=5_000, gpu_memory_mib=25_000)) is not None
    left = ledger.headrooms["a"]
    assert (left.memory_mib, [card.free_mib for card in left.gpus]) == (20_000, [20_000, 20_000])
    assert ledger.place(Needs(cpu=1, memory_mib=5_000, gpu_memory_mib=18_000)) is None, "together they do not fit"
    assert ledger.place(Needs(cpu=1, memory_mib=2_000, gpu_memory_mib=18_000)) is not None
    assert ledger.place(Needs(cpu=1, memory_mib=1)) is None


def test_what_is_declared_on_a_unified_gpu_is_declared_of_the_machine():
    view = pool(allocations=[allocation("r", memory_mib=1_000, gpu_memory_mib=20_000, gpus=[0], started_at=NOW)])

    left = headroom(view, NOW)

    assert (left.memory_mib, [card.free_mib for card in left.gpus]) == (39_000, [39_000, 39_000])
    scarcest = left.share(Needs(cpu=1, gpu_memory_mib=1_000))
    assert scarcest
    assert scarcest.resource == "memory"
    assert usage(view, POLICY)[MEMORY].declared == 21_000
    assert [kind for kind, _ in usage(view, POLICY)] == ["cpu", "memory"]


def test_work_on_a_unified_gpu_yields_when_strangers_need_the_machines_memory():
    ours = allocation("ours", gpu_memory_mib=40_000, gpus=[1], started_at=0)
    view = pool(free=0, own_memory_mib=40_000, allocations=[ours, allocation("small", memory_mib=100, priority=1)])
    view = replace(view, memory_mib=64_000, own_memory_mib=20_000)
    state, told = NodeState(), list[str]()
    for second in range(12):
        state, judgement = judge(replace(view, sampled_at=NOW + second), state, POLICY, NOW + second)
        told += judgement.yields

    assert "ours" in told


def test_a_whole_unified_gpu_takes_no_memory_with_it():
    view = pool(allocations=[allocation("r", gpus=[0])])
    view = replace(view, allocations=(replace(view.allocations[0], needs=Needs(cpu=1, gpus=1)),))

    left = headroom(view, NOW)

    assert (left.memory_mib, [card.free_mib for card in left.gpus]) == (60_000, [0, 60_000])
    assert left.gpus_for(Needs(gpus=1)) == ("GPU-1",)


def test_a_pool_that_is_too_small_for_both_can_never_run_them():
    assert can_ever_run(pool(), Needs(gpu_memory_mib=60_000))
    assert not can_ever_run(pool(), Needs(memory_mib=10_000, gpu_memory_mib=60_000))
    assert would_fit_alone(pool(), Needs(gpu_memory_mib=50_000), POLICY)
    assert not would_fit_alone(pool(), Needs(memory_mib=20_000, gpu_memory_mib=50_000), POLICY)


@pytest.mark.parametrize("note", ["no GPUs: NVML Shared Library Not Found", "no GPUs: there is an AMD card"])
def test_gpu_work_is_told_why_a_machine_has_no_gpus_and_cpu_work_goes_on(note):
    view = node(gpu_note=note)

    assert not should_pause([view], Needs(cpu=1), POLICY, NOW).should_pause
    verdict = should_pause([view], Needs(cpu=1, gpus=1), POLICY, NOW)
    assert verdict.code == "no_eligible_node"
    assert verdict.sentence == f"No online node can ever run this: it needs 1 core, one GPU; a has {note}."


def test_nobody_yields_on_a_guess_whose_memory_it_is():
    ours = allocation("ours", gpu_memory_mib=16_000, gpus=[0], started_at=0)
    view = node(gpus=[gpu(free=0, own_mib=0, note="cannot tell whose memory is used")], allocations=[ours])
    state, told = NodeState(), list[str]()
    for second in range(30):
        state, judgement = judge(replace(view, sampled_at=NOW + second), state, POLICY, NOW + second)
        told += judgement.yields

    assert told == []


def test_a_node_with_a_unified_gpu_can_be_emptied_for_large_work():
    ours = allocation("ours", gpu_memory_mib=40_000, gpus=[0], started_at=0)
    view = pool(free=20_000, own_memory_mib=40_000, allocations=[ours])
    policy = Policy(pause_below=0.0, resume_above=0.0)
    site = Site(view, None, policy, NOW)
    want = Want.of(Needs(cpu=1, gpu_memory_mib=50_000), policy)

    assert [card.free_mib for card in site.alone.gpus] == [60_000, 60_000]
    assert not site.takes(site.left, want)
    assert site.cheapest([ours], want, lambda _: (1.0,)) == [ours]
    too_large = Want.of(Needs(cpu=1, gpu_memory_mib=70_000), policy)
    assert site.cheapest([ours], too_large, lambda _: (1.0,)) is None
