"""Small work that moves so that large work has room."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pause_manager.capacity import (
    NodeState,
    Policy,
    RampState,
    Waiting,
    consolidate,
    fits,
    plan_resume,
    resuming_ledger,
)
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.placement.consolidation import KINDS_TRIED, NODES_TRIED
from pause_manager.capacity.snapshot import ContainerView, WorkerGroup
from tests.support.node_views import NOW, allocation, fleets, gpu, needs, node, with_load

POLICY = Policy()
RAMP = RampState(allowance=1000, polled_at=NOW - 10)
LONG_AGO = NOW - POLICY.consolidate_after_seconds
LARGE = Waiting("large", Needs(cpu=8), LONG_AGO)


def polled(fleet, entries=(LARGE,), *, ramp=RAMP, policy=POLICY, now=NOW, states=None):
    """One poll: what was sent on, what is moved, and the ramp for the next."""
    ledger = resuming_ledger(fleet, policy, now, states)
    plan, after = plan_resume(entries, fleet, policy, ramp, now, states, ledger=ledger)
    found, after = consolidate(after, ledger, policy, now, states)
    return [(entry.ref, place.node) for entry, place in plan], found, after


def moves(found):
    return [(one.kept.node, [(move.allocation.ref, move.to) for move in one.moves]) for one in found]


def small(name, **figures):
    return allocation(name, cpu=1, **figures)


def spread():
    """Two nodes of eight cores, a small loop on each."""
    return [node(name, allocations=[small(f"on-{name}", priority=3)]) for name in "ab"]


def test_a_small_loop_moves_and_the_large_work_has_its_node_to_itself():
    sent, found, ramp = polled(spread())

    assert sent == []
    assert moves(found) == [("a", [("on-a", "b")])]
    assert (ramp.reserved_nodes, ramp.reserved_for) == (("a",), (("a", LARGE.needs),))
    left = [node("a", sampled_at=NOW + 10), node("b", allocations=[small("on-b")], sampled_at=NOW + 10)]
    sent, found, ramp = polled(
        left, [LARGE, Waiting("on-a", Needs(cpu=1), NOW + 3, priority=1)], ramp=replace(ramp, allowance=9), now=NOW + 10
    )
    assert sorted(sent) == [("large", "a"), ("on-a", "b")]
    assert (found, ramp.kept, ramp.reserved_nodes) == ([], (), ())


def test_the_node_is_kept_even_from_more_urgent_work():
    _, _, ramp = polled(spread())
    now = NOW + 10
    left = [node("a", sampled_at=now), node("b", foreign=6.0, allocations=[small("on-b")], sampled_at=now)]
    urgent = Waiting("urgent", Needs(cpu=2), now, priority=1)

    sent, _, after = polled(left, [LARGE, urgent], ramp=replace(ramp, allowance=9), now=now)
    assert (sent, after.kept) == ([("large", "a")], ())


def test_nothing_moves_before_the_large_work_has_waited_a_while_and_it_is_not_tried_at_every_poll():
    waits = [Waiting("large", LARGE.needs, LONG_AGO + 1), Waiting("large", LARGE.needs, LONG_AGO - 15)]

    assert [polled(spread(), [entry])[1] for entry in waits] == [[], []]
    assert polled(spread(), [Waiting("large", LARGE.needs, LONG_AGO - POLICY.consolidate_every_seconds)])[1]


def test_it_is_off_by_one_setting():
    assert polled(spread(), policy=replace(POLICY, consolidates=False))[1] == []


def test_nothing_moves_that_has_no_place_elsewhere():
    full = node("b", foreign=6.0, allocations=[small("on-b")])

    assert polled([spread()[0], full])[1] == []


def test_all_of_a_set_must_have_a_place_at_once():
    """Each of the two would fit on b, but not both: at 30 % of eight cores the second finds too little."""
    fleet = [node("a", allocations=[allocation("one", cpu=2), allocation("two", cpu=2)]), node("b", foreign=4.0)]

    assert polled(fleet)[1] == []


def test_the_least_work_repeated_moves_then_the_least_urgent_then_what_runs_the_longest():
    def fleet(a, b):
        return [node("a", allocations=[a]), node("b", allocations=[b]), node("c", cores=4, foreign=1.0)]

    dear, cheap = small("dear", priority=5), small("cheap", priority=3)
    dear, cheap = replace(dear, repeats_seconds=40.0), replace(cheap, repeats_seconds=4.0)
    assert moves(polled(fleet(dear, cheap))[1]) == [("b", [("cheap", "c")])]

    urgent, idle = small("urgent", priority=3), small("idle", priority=5)
    assert moves(polled(fleet(urgent, idle))[1]) == [("b", [("idle", "c")])]

    young, old = small("young", started_at=NOW - 100), small("old", started_at=NOW - 500)
    assert moves(polled(fleet(young, old))[1]) == [("b", [("old", "c")])]


def test_the_runners_up_and_the_figures_are_told():
    dear = replace(small("dear"), repeats_seconds=40.0)
    _, (found,), _ = polled(
        [node("a", allocations=[dear]), node("b", allocations=[small("cheap")]), node("c", cores=4, foreign=1.0)]
    )

    assert found.figures["moves"] == [
        {"ref": "cheap", "priority": 3, "ran_seconds": 1000.0, "repeats_seconds": 0.0, "fits_on": "c"}
    ]
    assert found.figures["waits"] == {"ref": "large", "priority": 3, "seconds": 180}
    assert [(one["node"], one["repeats_seconds"], one["moves"]) for one in found.figures["runners_up"]] == [
        ("a", 40.0, ["dear"])
    ]
    assert found.sentence == (
        "b is kept free for larger work, which needs 8 cores and fits on no node as it is; "
        "one piece of work moves away: there is room on c."
    )


@pytest.mark.parametrize(
    "stays",
    [
        {"priority": 1},
        {"can_yield": False},
        {"is_sent": True},
        {"started_at": NOW - 59},
    ],
)
def test_what_is_more_urgent_cannot_yield_or_has_only_started_stays(stays):
    fleet = [node("a", allocations=[small("it", **stays)]), node("b", cores=4)]

    assert polled(fleet)[1] == []
    assert polled([node("a", allocations=[small("it")]), node("b", cores=4)])[1]


def test_what_has_waited_for_long_moves_more_urgent_work():
    fleet = [node("a", allocations=[small("it", priority=2)]), node("b", cores=4)]

    assert polled(fleet, [LARGE])[1] == []
    assert polled(fleet, [replace(LARGE, paused_at=NOW - POLICY.ageing_seconds)])[1]


def test_no_more_moves_than_must_and_what_does_not_count_stays():
    """Of five cores declared the large work needs one: one loop moves. Memory is not short."""
    allocations = [allocation("memory", cpu=0, memory_mib=1_000), *(small(f"loop-{n}") for n in range(3))]

    _, (found,), _ = polled(
        [node("a", allocations=allocations), node("b", cores=4)], [replace(LARGE, needs=Needs(cpu=6))]
    )

    assert [move.allocation.ref for move in found.moves] == ["loop-0"]


def test_whole_cards_are_made_free():
    cards = [gpu(index, free=12_000, own_mib=12_000) for index in range(2)]
    allocations = [allocation(f"card-{n}", cpu=1, gpu_memory_mib=12_000, gpus=(n,)) for n in range(2)]
    fleet = [
        node("a", gpus=cards, allocations=allocations),
        node("b", gpus=[gpu(0), gpu(1)], foreign=3.0, allocations=[small("x")]),
    ]
    wants = replace(LARGE, needs=Needs(cpu=5, gpu_memory_mib=24_000, gpus=2))

    assert moves(polled(fleet, [wants])[1]) == [("b", [("x", "a")])], "one core of b, rather than both cards of a"
    alone = polled([fleet[0], node("b", cores=4, gpus=[gpu(0)])], [wants])[1]
    assert moves(alone) == [("a", [("card-0", "b"), ("card-1", "b")])]


def test_where_strangers_leave_too_little_nothing_is_moved_and_nothing_is_kept_any_longer():
    assert polled([node("a", foreign=1.0, allocations=[small("it")]), node("b", cores=4)])[1] == []

    _, _, ramp = polled(spread())
    busy = [node("a", foreign=2.0, sampled_at=NOW + 10), spread()[1]]
    _, _, after = polled([replace(view, sampled_at=NOW + 10) for view in busy], ramp=ramp, now=NOW + 10)
    assert (after.kept, after.reserved_nodes) == ((), ())


def test_nothing_moves_twice_within_the_cooldown():
    _, _, ramp = polled(spread())
    assert ramp.moved == (("on-a", NOW),)
    soon, later = NOW + POLICY.move_patience_seconds, NOW + POLICY.move_cooldown_seconds

    def again(now, ramp):
        fleet = [node("a", allocations=[small("on-a")], sampled_at=now), node("b", cores=4, sampled_at=now)]
        return polled(
            fleet,
            [replace(LARGE, paused_at=now - POLICY.consolidate_after_seconds)],
            ramp=replace(ramp, polled_at=now - 10),
            now=now,
        )

    _, found, ramp = again(soon, ramp)
    assert found == []
    _, found, _ = again(later, ramp)
    assert moves(found) == [("a", [("on-a", "b")])]


def test_a_task_that_runs_again_is_the_same_piece_of_work():
    fleet = [node("a", allocations=[small("task:x/2")]), node("b", cores=4)]

    assert polled(fleet, ramp=replace(RAMP, moved=(("task:x", NOW - 100),)))[1] == []


def test_a_node_is_kept_only_so_long():
    _, _, ramp = polled(spread())
    stuck = [replace(view, sampled_at=NOW + 299) for view in spread()]
    _, found, ramp = polled(stuck, ramp=ramp, now=NOW + 299)
    assert ([one.node for one in ramp.kept], found) == (["a"], [])

    stuck = [replace(view, sampled_at=NOW + 300) for view in spread()]
    _, _, ramp = polled(stuck, ramp=ramp, now=NOW + 300)
    assert "a" not in [one.node for one in ramp.kept]


def test_a_node_is_kept_for_nobody_once_nothing_waits_for_it():
    _, _, ramp = polled(spread())

    _, _, after = polled(spread(), [Waiting("other", Needs(cpu=7.5), NOW)], ramp=ramp)

    assert after.kept == ()
    assert polled(spread(), [], ramp=ramp)[2].kept == ()


def test_cooling_nodes_are_neither_made_free_nor_filled():
    cooling = NodeState(cooldown_until=NOW + 5)

    assert moves(polled(spread(), states={"a": cooling})[1]) == []
    assert moves(polled([*spread(), node("c", cores=4)], states={"a": cooling})[1]) == [("b", [("on-b", "c")])]


def test_a_node_that_our_own_small_work_has_filled_is_made_free():
    full = NodeState(is_saturated=True)
    fleet = [node("a", allocations=[small(str(n)) for n in range(8)]), node("b", cores=16, free=30_000)]

    _, (found,), _ = polled(fleet, [replace(LARGE, needs=Needs(cpu=8, memory_mib=50_000))], states={"a": full})

    assert (found.kept.node, len(found.moves)) == ("a", 8)


def test_only_nodes_that_serve_the_queue_are_made_free_or_filled():
    large = replace(LARGE, queue="large")
    serving, other = frozenset({"large", "small"}), frozenset({"small"})

    def fleet(a, b, queue="small"):
        return [
            node("a", allocations=[replace(small("it"), queue=queue)], workers=(WorkerGroup(a),)),
            node("b", cores=4, workers=(WorkerGroup(b),)),
        ]

    assert moves(polled(fleet(serving, other), [large])[1]) == [("a", [("it", "b")])]
    assert polled(fleet(other, serving), [large])[1] == []
    assert polled(fleet(serving, other, queue="large"), [large])[1] == [], "it would be served nowhere else"


@given(
    fleets(most=6),
    st.lists(st.tuples(needs, st.integers(0, 5), st.integers(1, 5)), max_size=15),
    st.lists(st.tuples(needs, st.integers(1, 5)), min_size=1, max_size=5),
)
def test_whatever_moves_fits_where_it_is_sent_and_the_large_work_fits_where_it_left(fleet, carried, wanted):
    fleet = [replace(view, allocations=()) for view in fleet]
    for number, (one, at, priority) in enumerate(carried):
        view = fleet[at % len(fleet)]
        if fits(view, one, NOW):
            put = allocation(str(number), cpu=one.cpu, memory_mib=one.memory_mib, priority=priority)
            fleet[at % len(fleet)] = replace(view, allocations=(*view.allocations, put))
    entries = [Waiting(f"w{n}", one, LONG_AGO, priority) for n, (one, priority) in enumerate(wanted)]
    ledger = resuming_ledger(fleet, POLICY, NOW)
    plan, ramp = plan_resume(entries, fleet, POLICY, RAMP, NOW, ledger=ledger)
    before = {name: left.copy() for name, left in ledger.headrooms.items()}

    found, _ = consolidate(ramp, ledger, POLICY, NOW)

    assert ledger.headrooms == before, "nothing stays reserved"
    views = {view.name: view for view in fleet}
    for entry, place in plan:
        views[place.node] = with_load(views[place.node], entry.ref, entry.needs, place.gpus, NOW)
    for one in found:
        gone = set(one.refs)
        views[one.kept.node] = replace(
            views[one.kept.node],
            allocations=tuple(
                allocation for allocation in views[one.kept.node].allocations if allocation.ref not in gone
            ),
        )
    for one in found:
        for move in one.moves:
            assert move.to != one.kept.node
            assert fits(views[move.to], move.allocation.needs, NOW)
            views[move.to] = with_load(views[move.to], move.allocation.ref, move.allocation.needs, (), NOW)
    for one in found:
        assert fits(views[one.kept.node], one.entry.needs, NOW)


def test_ten_times_the_nodes_and_kinds_take_no_more_than_ten_times_the_work():
    few, many = calls(100), calls(1_000)

    assert many < 12 * few


def calls(nodes: int) -> int:
    """How many functions one consolidation calls in a fleet where nothing has a place elsewhere in the end."""
    fleet = [
        node(
            f"n{n}",
            cores=96,
            foreign=n % 7,
            gpus=[gpu(k) for k in range(8)],
            allocations=[small(f"{n}-{k}") for k in range(9)],
        )
        for n in range(nodes)
    ]
    short = tuple(Waiting(str(n), Needs(cpu=87 + n / 10), LONG_AGO) for n in range(3 * KINDS_TRIED))
    ledger = resuming_ledger(fleet, POLICY, NOW)
    for name in ledger.headrooms:
        ledger.headrooms[name].cpu_millicores = 0
    count = 0

    def called(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        consolidate(replace(RAMP, short=short), ledger, POLICY, NOW)
    finally:
        sys.setprofile(None)
    assert nodes > NODES_TRIED
    return count


def test_room_is_made_in_the_container_that_the_large_work_needs():
    """Each container has a limit: what is in the way has filled that of one of them, not the machine."""
    containers = (ContainerView("big", "big", cores=8.0), ContainerView("small", "small", cores=4.0))
    fleet = [
        node("a", cores=12.0, containers=containers, allocations=[replace(small("in-big"), container="big")]),
        node("b", cores=4.0),
    ]
    assert moves(polled(fleet)[1]) == [("a", [("in-big", "b")])]

    elsewhere = replace(fleet[0], containers=(replace(containers[0], foreign_cores=1.0), containers[1]))
    assert polled([elsewhere, fleet[1]])[1] == [], "strangers in that container leave too little of it"


def test_memory_of_a_container_counts_without_what_is_ours():
    large = Waiting("large", Needs(cpu=1, memory_mib=7_000), LONG_AGO)
    tight = ContainerView("one", "one", memory_mib=8_000, free_memory_mib=4_000, own_memory_mib=4_000)
    fleet = [
        node(
            "a",
            containers=(tight,),
            own_memory_mib=4_000,
            free=60_000,
            allocations=[replace(small("in-it", memory_mib=4_000), container="one")],
        ),
        replace(node("b", cores=4.0, free=6_000), memory_mib=6_000),
    ]
    policy = replace(POLICY, resume_above=0.0, pause_below=0.0)
    assert moves(polled(fleet, [large], policy=policy)[1]) == [("a", [("in-it", "b")])]


def served(view, *queues):
    return replace(view, workers=(WorkerGroup(frozenset(queues)),))


def test_a_node_is_kept_no_longer_when_only_work_is_left_that_cannot_go_there():
    """It needs as much, but nobody there serves its queue."""
    fleet = [
        served(node("a", allocations=[small("on-a")]), "x"),
        served(node("b"), "x"),
        served(node("c", cores=2), "y"),
    ]
    fleet[1] = replace(fleet[1], allocations=(small("on-b"),))
    large = replace(LARGE, queue="x")
    _, found, ramp = polled(fleet, [large])
    assert found

    other = Waiting("other", LARGE.needs, NOW, queue="y")
    assert polled(fleet, [other], ramp=ramp)[2].kept == ()
    assert polled(fleet, [replace(other, queue="x")], ramp=ramp)[2].kept == ramp.kept, "that may have it"


def test_room_is_made_for_each_queue_of_the_same_needs():
    def pair(queue):
        return [
            served(node(f"{queue}{n}", allocations=[replace(small(f"on-{queue}{n}"), queue=queue)]), queue)
            for n in "12"
        ]

    fleet = [*pair("x"), *pair("y"), *(served(node(f"z{n}", foreign=8.0), "z") for n in range(16))]
    entries = [replace(LARGE, ref=queue, queue=queue) for queue in "xy"]

    _, found, ramp = polled(fleet, [entries[0]])
    assert [one.kept.node for one in found] == ["x1"]
    _, found, _ = polled(fleet, entries, ramp=replace(ramp, allowance=9, polled_at=NOW - 10))
    assert [one.kept.node for one in found] == ["y1"]
