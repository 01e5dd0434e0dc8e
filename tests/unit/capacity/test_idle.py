"""What idle processes occupy never hides what new work has declared, and what is released is not counted for ever."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pause_manager.capacity import Idle, Policy, headroom, place
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation, NodeView
from pause_manager.nodes.persisted_state import PersistedNodeState
from tests.support.node_views import allocation, gpu, node

POLICY = Policy(sensor_lag_seconds=60)
TOTAL = 64_000
OTHERS = 2_048


def machine(at: float, own: int, *allocations: Allocation) -> NodeView:
    """A node of 64,000 MiB of which our processes occupy ``own``, and others 2 GiB."""
    view: NodeView = node(
        free=TOTAL - own - OTHERS, own_memory_mib=own, sampled_at=at, allocations=allocations, cores=64.0
    )
    return view


class Watch:
    """The speaker of a node: a sample a second, each told with what was idle as of the one before."""

    def __init__(self) -> None:
        self.idle = Idle()
        self.now = 0.0

    def sees(self, own: int, *allocations: Allocation, seconds: int = 1) -> NodeView:
        for _ in range(seconds):
            self.now += 1
            told = self.idle.told(machine(self.now, own, *allocations))
            self.idle = self.idle.seen(told)
        return told

    def left(self, view: NodeView) -> int:
        return headroom(view, self.now, POLICY).memory_mib


def big(ref: str, at: float, amount: int = 30_000) -> Allocation:
    found: Allocation = allocation(ref, memory_mib=amount, started_at=at)
    return found


def test_idle_processes_hide_nothing_of_a_load_that_has_just_started():
    watch = Watch()
    watch.sees(16_384, seconds=5)
    watch.now += 0.5
    first = big("first", watch.now)

    for _ in range(200):
        view = watch.sees(16_384 + 100, first)
        assert watch.left(view) - (TOTAL - OTHERS - 16_484 - 30_000) in (0, 100)
    assert place([view], Needs(cpu=1, memory_mib=30_000), POLICY, watch.now) is None

    unaware = replace(view, idle_at=None, idle_memory_mib=0)
    assert headroom(unaware, watch.now, POLICY).memory_mib > 30_000, "without the baseline a second one fits"


def test_a_load_that_shows_is_counted_once():
    watch = Watch()
    watch.sees(2_000, seconds=3)
    one = big("one", watch.now + 0.5)
    for own in range(2_000, 32_001, 3_000):
        view = watch.sees(own, one, seconds=2)
        assert watch.left(view) == TOTAL - OTHERS - 2_000 - 30_000
    assert watch.left(watch.sees(32_000, one, seconds=300)) == TOTAL - OTHERS - 32_000


def test_what_a_load_leaves_behind_hides_nothing_of_the_next():
    watch = Watch()
    watch.sees(1_000, seconds=3)
    watch.sees(6_000, big("gone", watch.now + 0.5, 5_000), seconds=30)
    second = big("second", watch.now + 0.5, 8_000)

    view = watch.sees(6_000, second, seconds=2)  # it ended and the next began between two samples: the heap stays

    assert watch.left(view) == TOTAL - OTHERS - 6_000 - 8_000


def test_memory_that_a_load_gives_back_is_free_again():
    watch = Watch()
    watch.sees(1_000, seconds=3)
    greedy, modest = big("greedy", watch.now + 0.2, 2_000), big("modest", watch.now + 0.4, 3_000)
    watch.sees(1_000 + 8_000 + 3_000, greedy, modest, seconds=30)

    view = watch.sees(1_000 + 3_000, modest, seconds=3)

    assert watch.left(view) == TOTAL - OTHERS - 4_000, "the modest one shows: it is not counted twice"


def test_what_is_released_while_a_load_has_not_shown_does_not_hide_it():
    watch = Watch()
    watch.sees(1_000, seconds=3)
    greedy, late = big("greedy", watch.now + 0.2, 2_000), big("late", watch.now + 0.4, 3_000)
    watch.sees(1_000 + 8_000, greedy, late, seconds=5)

    view = watch.sees(1_000, late, seconds=3)

    assert watch.left(view) == TOTAL - OTHERS - 1_000 - 3_000


def test_what_started_since_the_last_look_counts_in_full():
    watch = Watch()
    watch.sees(16_000, seconds=3)
    fresh = big("fresh", watch.now + 0.5)

    view = watch.idle.told(machine(watch.now + 1, 16_000 + 30_000, fresh))

    assert headroom(view, watch.now + 1, POLICY).memory_mib == TOTAL - OTHERS - 46_000 - 30_000


def test_contexts_that_idle_processes_keep_on_a_gpu_hide_nothing():
    idle = Idle()
    empty = node(gpus=[gpu(free=20_000, own_mib=4_000)], sampled_at=1.0)
    idle = idle.seen(empty)
    ours = allocation("r", gpu_memory_mib=14_000, gpus=[0], started_at=1.5)
    for at in (2.0, 3.0, 4.0):
        view = idle.told(replace(empty, sampled_at=at, allocations=(ours,)))
        idle = idle.seen(view)

    assert headroom(view, 4.0).gpus[0].free_mib == 20_000 - 14_000
    assert headroom(replace(view, idle_at=None, gpus=empty.gpus), 4.0).gpus[0].free_mib == 20_000 - 10_000


def test_the_next_speaker_goes_on_with_what_the_last_one_kept():
    watch = Watch()
    watch.sees(16_000, seconds=3)
    ours = big("ours", watch.now + 0.5)
    watch.sees(16_000, ours, seconds=5)
    kept = PersistedNodeState(idle=watch.idle.lasting).as_dict()

    successor = Watch()
    successor.idle, successor.now = PersistedNodeState.of_dict(kept).idle, watch.now
    view = successor.sees(16_000, ours, seconds=2)

    assert watch.left(view) == TOTAL - OTHERS - 16_000 - 30_000
    watch.sees(16_000, seconds=2)
    assert watch.idle.lasting == Idle(), "nothing is at work: it is measured anew"
    assert PersistedNodeState.of_dict({}).idle == Idle()


@given(
    st.integers(0, 20_000),
    st.lists(st.tuples(st.integers(1, 9_000), st.floats(0, 1)), min_size=1, max_size=4),
)
def test_loads_that_stay_within_what_they_declared_have_it_all(idle: int, shapes: list[tuple[int, float]]):
    watch = Watch()
    watch.sees(idle, seconds=2)
    allocations: list[Allocation] = []
    own = idle
    for number, (declared, part) in enumerate(shapes):
        allocations.append(big(str(number), watch.now + 0.5, declared))
        own += round(declared * part)
        view = watch.sees(own, *allocations, seconds=2)

    declared = sum(amount for amount, _ in shapes)
    assert watch.left(view) == TOTAL - OTHERS - idle - declared, "whatever of it shows"
