"""Work runs in one worker: it needs one who serves its queue, sees its GPUs, and has room in its container."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pause_manager.capacity import (
    Policy,
    ReservationLedger,
    Waiting,
    can_ever_run,
    headroom,
    how_many_fit,
    outlook,
    place,
    share,
    should_pause,
)
from pause_manager.capacity.foreign import would_fit_alone
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import ContainerView, NodeView, WorkerGroup
from tests.support.node_views import NOW, allocation, fleets, gpu, needs, node
from tests.unit.capacity.test_consolidation import LONG_AGO, moves, polled

ANY = Policy(pause_below=0.0, resume_above=0.0)
ONE, TWO = Needs(cpu=1, gpus=1), Needs(cpu=1, gpus=2)


def worker(queue: str, *cards: int, container: str = "") -> WorkerGroup:
    return WorkerGroup(frozenset({queue}), frozenset(f"GPU-{card}" for card in cards) if cards else None, container)


def manned(*workers: WorkerGroup, **figures: object) -> NodeView:
    view: NodeView = node(gpus=[gpu(0), gpu(1)], workers=workers, **figures)
    return view


MASKED = manned(worker("gpu", 0), worker("other"))


def test_work_of_a_queue_is_promised_only_the_cards_that_a_worker_of_it_sees():
    assert how_many_fit([MASKED], ONE, 9, ANY, NOW, queue="gpu") == 1
    assert how_many_fit([MASKED], ONE, 9, ANY, NOW, queue="other") == 2
    assert place([MASKED], TWO, ANY, NOW, queue="gpu") is None
    assert place([MASKED], TWO, ANY, NOW, queue="other") is not None
    assert place([MASKED], TWO, ANY, NOW) is not None, "whose queue is not known goes anywhere"
    assert not can_ever_run(MASKED, TWO, "gpu")


def test_a_node_where_no_worker_sees_enough_can_never_run_it_and_says_why():
    told = should_pause([MASKED], TWO, ANY, NOW, "gpu")

    assert (told.should_pause, told.code) == (True, "no_eligible_node")
    assert told.sentence == (
        "No online node can ever run this: it needs 1 core, 2 GPUs; "
        "no worker of the queue gpu on a sees more than 1 of its 2 GPUs."
    )
    assert outlook([MASKED], TWO, ANY, NOW, queue="gpu") == told
    blind = replace(MASKED, workers=(WorkerGroup(frozenset({"gpu"}), frozenset()),))
    assert should_pause([blind], ONE, ANY, NOW, "gpu").sentence.endswith(
        "no worker of the queue gpu on a sees any of its 2 GPUs."
    )
    assert not should_pause([MASKED], TWO, ANY, NOW, "other").should_pause


def test_two_workers_that_see_a_card_each_are_not_one_that_sees_both():
    split = manned(worker("gpu", 0), worker("gpu", 1))

    assert not can_ever_run(split, TWO, "gpu")
    assert how_many_fit([split], ONE, 9, ANY, NOW, queue="gpu") == 2
    assert not would_fit_alone(split, TWO, ANY, "gpu")
    both = manned(worker("gpu", 0), worker("gpu", 1), worker("gpu", 0, 1))
    assert can_ever_run(both, TWO, "gpu")
    assert would_fit_alone(both, TWO, ANY, "gpu")


def test_the_share_of_a_queue_is_that_of_the_cards_that_its_workers_see():
    view = replace(MASKED, gpus=(gpu(0, free=6_000), gpu(1)))
    large = Needs(cpu=0, gpu_memory_mib=8_000)

    assert (share(view, large, NOW, queue="gpu"), share(view, large, NOW, queue="other")) == (
        (6_000, 24_000, "gpu_memory"),
        (24_000, 24_000, "gpu_memory"),
    )
    assert share(view, Needs(gpu_memory_mib=8_000, gpus=2), NOW, queue="gpu") is None
    told = outlook([view], large, Policy(), NOW, queue="gpu")
    assert (told.code, told.sentence) == (
        "below_resume_threshold",
        "a has 6,000 of 24,000 MiB of GPU memory free, 8,000 MiB on one GPU needed; "
        "parked work resumes only with 7,200 MiB of GPU memory free.",
    )


def test_a_card_given_to_one_queue_is_gone_for_the_other():
    ledger = ReservationLedger([MASKED], ANY, NOW)

    first = ledger.place(ONE, queue="other")
    assert first
    assert first.gpus == ("GPU-1",)
    second = ledger.place(ONE, queue="other")
    assert second
    assert second.gpus == ("GPU-0",)
    assert ledger.place(ONE, queue="gpu") is None


def test_cards_and_room_must_be_those_of_one_container():
    view = manned(
        worker("gpu", 0, 1, container="small"),
        worker("gpu", container="large"),
        containers=(ContainerView("small", "small", cores=2.0), ContainerView("large", "large", cores=6.0)),
    )
    view = replace(view, workers=(worker("gpu", 0, 1, container="small"), worker("gpu", 0, container="large")))
    wide = Needs(cpu=4, gpus=2)

    assert not can_ever_run(view, wide, "gpu"), "the large container sees one card, and the small one is too small"
    assert place([view], wide, ANY, NOW, queue="gpu") is None
    assert place([view], replace(wide, gpus=1), ANY, NOW, queue="gpu") is not None
    assert place([view], replace(wide, cpu=2), ANY, NOW, queue="gpu") is not None

    busy = replace(view, allocations=(replace(allocation("it", cpu=2), container="small"),))
    told = outlook([busy], replace(wide, cpu=2), ANY, NOW, queue="gpu")
    assert told.sentence.endswith(", but no worker there that does this sees such GPUs and has room in its container.")
    left = headroom(view, NOW)
    left.take(replace(wide, cpu=2), ("GPU-0", "GPU-1"), "gpu")
    assert {key: bound.cpu_millicores for key, bound in left.bounds.items()} == {"small": 0, "large": 6_000}


def test_nothing_moves_and_no_node_is_kept_for_work_that_no_worker_there_can_do():
    small = replace(allocation("it", gpus=[0]), needs=ONE, queue="other")
    beside = node("b", gpus=[gpu(5)], workers=(worker("other"),))
    waits = Waiting("large", TWO, LONG_AGO - 3600, queue="gpu")

    _, found, ramp = polled([replace(MASKED, allocations=(small,)), beside], [waits])
    assert (found, ramp.reserved_nodes) == ([], ())

    unmasked = manned(worker("gpu"), worker("other"), allocations=[small])
    assert moves(polled([unmasked, beside], [replace(waits, paused_at=LONG_AGO)])[1]) == [("a", [("it", "b")])]


def test_what_is_on_cards_that_the_queue_does_not_see_stays():
    def on(ref: str, card: int):
        return replace(allocation(ref, gpus=[card]), needs=ONE, queue="other")

    view = manned(worker("gpu", 1), worker("other"), allocations=[on("aside", 0), on("in-the-way", 1)])
    beside = node("b", gpus=[gpu(5), gpu(6)], workers=(worker("other"),))

    found = polled([view, beside], [Waiting("large", ONE, LONG_AGO, queue="gpu")])[1]

    assert moves(found) == [("a", [("in-the-way", "b")])]


@given(
    fleets(most=3),
    needs,
    st.lists(st.tuples(st.sampled_from(("x", "y")), st.frozensets(st.integers(0, 2))), min_size=1, max_size=4),
)
def test_whatever_is_placed_one_worker_sees_it_all(fleet, one, workers):
    groups = tuple(
        WorkerGroup(frozenset({queue}), frozenset(f"GPU-{card}" for card in cards)) for queue, cards in workers
    )
    ledger = ReservationLedger([replace(view, workers=groups) for view in fleet], ANY, NOW)

    for _ in range(5):
        found = ledger.place(one, queue="x")
        if found is None:
            break
        assert any(group.serves("x") and {*found.gpus} <= (group.gpus or set()) for group in groups)
        assert can_ever_run(ledger.views[found.node], one, "x")
