"""Whether new work may start, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pause_manager.capacity import Policy, fits, goes_behind, headroom, how_many_fit, place, share, should_pause
from pause_manager.capacity.needs import Needs
from tests.support.node_views import NOW, allocation, fleets, gpu, needs, node, with_load

POLICY = Policy()


def verdict(*nodes, needs=None, policy=POLICY):
    return should_pause(nodes, needs or Needs(), policy, NOW)


def where(fleet, needs, policy, **options):
    found = place(fleet, needs, policy, NOW, **options)
    assert found
    return found.node


@pytest.mark.req("P-02")
def test_one_node_with_room_is_enough():
    assert verdict(node("a", foreign=7), node("b", foreign=7)).should_pause
    assert not verdict(node("a", foreign=7), node("b", foreign=2)).should_pause


@pytest.mark.req("P-03")
@pytest.mark.parametrize("cores", [1, 3, 5, 7, 8, 10, 33, 96])
def test_a_node_exactly_at_the_threshold_is_not_below_it(cores):
    at = node(cores=cores, foreign=cores * 0.8)
    below = node(cores=cores, foreign=cores * 0.8 + 0.001)

    assert not verdict(at).should_pause
    assert verdict(below).should_pause


@pytest.mark.req("P-08")
def test_no_node_and_no_sample_mean_pause():
    assert verdict().code == "no_online_node"
    assert verdict(node(sampled_at=NOW - 10)).code == "no_online_node"
    assert verdict(node(gpu_problem="no answer"), needs=Needs(gpus=1)).code == "no_readable_sample"
    assert verdict(node(gpus=[gpu(free=None)]), needs=Needs(gpus=1)).code == "no_readable_sample"
    assert all(found.should_pause for found in (verdict(), verdict(node(is_online=False))))


@pytest.mark.req("P-09")
def test_a_node_is_offline_after_three_missed_samples():
    stale, fresh = node(sampled_at=NOW - 3.01), node(sampled_at=NOW - 3)

    assert verdict(stale).code == "no_online_node"
    assert verdict(fresh).code == "has_room"
    assert verdict(stale, node("b", foreign=8)).figures["online"] == 1


@pytest.mark.req("P-37")
def test_a_cpu_fleet_is_never_full_for_lack_of_a_gpu():
    fleet = [node("a", foreign=1), node("g", foreign=8, gpus=[gpu(free=0)])]

    assert not verdict(*fleet).should_pause
    assert verdict(fleet[0], needs=Needs(gpus=1)).code == "no_eligible_node"


@pytest.mark.req("P-31")
def test_a_verdict_names_its_figures():
    found = verdict(node("a", foreign=7), node("b", foreign=6.8))

    assert found.sentence == (
        "b, the freest of 2 nodes, has 1.2 of 8 cores free, 1 core needed; "
        "new work starts there only with 1.6 cores free."
    )
    assert found.figures["nodes"] == 2
    assert found.figures["average_free_share"] == pytest.approx(0.1375)
    assert found.figures["threshold"] == 0.20
    assert found.figures["totals"]["cores"] == 16


def test_a_node_of_its_own_mind_is_held_to_its_own_threshold():
    assert verdict(node(foreign=4, pause_below=0.6)).should_pause
    assert not verdict(node(foreign=7, pause_below=0.1)).should_pause


def test_own_load_counts_for_room():
    busy = node(cores=4, allocations=[allocation(str(n)) for n in range(4)])

    assert verdict(busy).should_pause


def test_work_goes_to_the_fullest_node_that_may_take_it_and_spares_gpu_nodes():
    fleet = [node("gpu", gpus=[gpu()], foreign=6), node("half", foreign=4), node("free", foreign=1)]

    assert where(fleet, Needs(), POLICY) == "half"
    assert where(fleet, Needs(cpu=5), POLICY) == "free"
    assert where(fleet, Needs(gpus=1), POLICY) == "gpu"
    assert where(fleet, Needs(), POLICY, barred={"half"}) == "free"
    assert where(fleet, Needs(), Policy(packs=False)) == "free"


def test_some_but_not_all_fit():
    assert how_many_fit([node(cores=4), node("b", cores=2)], Needs(), 100, POLICY, NOW) == 6
    assert how_many_fit([node(cores=4)], Needs(), 3, POLICY, NOW) == 3
    assert how_many_fit([node(cores=4, foreign=3.5)], Needs(), 3, POLICY, NOW) == 0


def test_a_hundred_admissions_for_one_gpu_let_one_through():
    view = node(cores=400, gpus=[gpu()])
    wanted = Needs(cpu=1, gpu_memory_mib=20_000)

    admitted = 0
    for number in range(100):
        found = place([view], wanted, POLICY, NOW)
        if found:
            admitted += 1
            view = with_load(view, str(number), wanted, found.gpus, NOW)

    assert admitted == 1


def test_newcomers_queue_behind_equal_work_that_waits_but_not_behind_larger():
    small, large = Needs(cpu=1), Needs(cpu=8)

    assert goes_behind([(small, 3)], small, 3)
    assert not goes_behind([(small, 3)], small, 2)
    assert not goes_behind([(large, 1)], small, 3)
    assert goes_behind([(small, 3)], large, 3)
    assert not goes_behind([(Needs(gpus=1), 3)], small, 3)


@given(fleets(), st.lists(needs, min_size=1, max_size=12))
def test_nothing_is_ever_oversubscribed(fleet, wanted):
    views = {view.name: view for view in fleet}

    for number, one in enumerate(wanted):
        found = place(list(views.values()), one, POLICY, NOW)
        if found:
            assert fits(views[found.node], one, NOW)
            assert len(set(found.gpus)) == one.gpus
            views[found.node] = with_load(views[found.node], str(number), one, found.gpus, NOW)

    for view in views.values():
        left = headroom(view, NOW)
        if view.allocations:
            assert left.cpu_millicores >= 0
            assert all(one.free_mib >= 0 for one in left.gpus)
            if any(one.needs.memory_mib for one in view.allocations):
                assert left.memory_mib >= 0


@given(fleets(), needs, st.integers(0, 40))
def test_how_many_fit_is_how_often_one_can_be_placed(fleet, one, wanted):
    views = {view.name: view for view in fleet}
    placed = 0
    while placed < wanted and (found := place(list(views.values()), one, POLICY, NOW)):
        views[found.node] = with_load(views[found.node], str(placed), one, found.gpus, NOW)
        placed += 1

    assert how_many_fit(fleet, one, wanted, POLICY, NOW) == placed


@pytest.mark.slow
@given(fleets(), needs, st.floats(0, 4))
def test_more_strangers_never_make_more_room(fleet, one, more):
    busier = [replace(view, foreign_cores=view.foreign_cores + more) for view in fleet]

    assert should_pause(busier, one, POLICY, NOW).should_pause or not should_pause(fleet, one, POLICY, NOW).should_pause
    assert how_many_fit(busier, one, 10, POLICY, NOW) <= how_many_fit(fleet, one, 10, POLICY, NOW)


@given(fleets(), needs)
def test_the_verdict_is_what_the_shares_say(fleet, one):
    shares = [share(view, one, NOW) for view in fleet]

    if should_pause(fleet, one, POLICY, NOW).should_pause:
        assert place(fleet, one, POLICY, NOW) is None
    else:
        assert any(left is not None and left.free * 5 >= left.total for left in shares)
