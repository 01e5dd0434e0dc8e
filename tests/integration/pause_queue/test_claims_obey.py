"""What was decided about a node holds where work starts, and not only where it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.db.models import F

from automation import dispatch, leases
from automation.dispatch import admission
from automation.errors import NoRoom
from automation.items.leased_slice import LeasedSlice
from automation.leases.holders import Worker
from automation.models import AutomationRun, Ticket, WorkSlice
from automation.pipeline import get_pipeline
from automation.runs import reconciler
from pause_manager import capacity, manager, nodes, times
from pause_manager.capacity.foreign import ForeignPeak
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import ContainerView
from pause_manager.models import Machine, PauseQueueEntry, PollState
from pause_manager.nodes.machines import identity
from pause_manager.nodes.persisted_state import PersistedNodeState
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.probes import processes
from tests.support.factories import make_run, stage_of, tickets
from tests.support.node_factories import make_node
from tests.support.race import in_thread, race, wait_until_blocked
from tests.support.sampled_fleet import HERE, full, gpu, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]

SMALL, LARGE = Needs(), Needs(cpu=6)


def remembers(**state: object) -> None:
    """What the last sampler kept of this node."""
    assert nodes.save_state(HERE, PersistedNodeState(capacity.NodeState(**state)))  # type: ignore[arg-type]


def asks(needs: Needs = SMALL, **how: object) -> tuple[str, ...] | str:
    with transaction.atomic():
        return manager.admit_on(HERE, needs, **how)  # type: ignore[arg-type]


def later(seconds: float) -> None:
    PauseQueueEntry.objects.update(paused_at=F("paused_at") - timedelta(seconds=seconds))


def test_a_saturated_node_takes_nothing_new_until_it_has_had_room_for_long_enough():
    node()
    remembers(is_saturated=True)

    told = asks()

    assert told == f"{HERE} has 8 of 8 cores free, 1 core needed; it must keep 2.4 cores free for 15 s first."
    assert asks(goes_on=True) == (), "a loop that has ended a slice there is nothing new"


def test_a_node_that_cools_down_takes_what_is_new_and_nothing_that_was_parked():
    view = node()
    remembers(cooldown_until=view.sampled_at + 500)

    told = asks(was_parked=lambda: True)

    assert isinstance(told, str)
    assert "it takes no parked work for another" in told
    assert asks(was_parked=lambda: False) == asks() == ()


def test_what_strangers_lately_used_more_is_left_free():
    view = node(foreign=6)
    assert asks(Needs(cpu=1.5)) == (), "of 2 cores 1.5 are needed ..."
    remembers(foreign_peak=ForeignPeak(since=view.sampled_at, latest={("cpu", ""): 8_000}))

    told = asks(Needs(cpu=1.5))

    assert isinstance(told, str), "... and 0.8 are left"
    assert "0.8 cores" in told
    assert asks(Needs(cpu=1.5), goes_on=True) == ()


@pytest.mark.req("P-22", "P-39")
def test_a_fleet_of_one_node_gives_large_work_its_turn():
    node()
    small = make_run("scripted", items=100)
    Ticket.objects.all().delete()
    for number in range(4):
        assert leased_by(small, str(number)) is not None
    manager.pause_work([WithheldDispatch("large:1", "others.work", "control", LARGE)], reason="full")
    later(3600)

    assert manager.poll().sent == 0, "four of eight cores are taken"
    assert PollState.objects.get().ramp["held"] == [HERE]

    told = asks()
    assert told == f"{HERE} has 4 of 8 cores free, 1 core needed; it is kept free for 6 cores."
    assert asks(goes_on=True) == told, "or it would never be free"
    other = make_run("few", items=1)
    assert tickets(other) == 0
    reason = PauseQueueEntry.objects.waiting().get(ref=other.scope).reason
    assert reason.startswith(
        f"No node has room for 1 core on top of work already sent ({HERE} is kept free for 6 cores): "
    )
    assert leased_by(small, "more") is None

    WorkSlice.objects.leased().update(lease_token=None, leased_at=None, lease_expires_at=None, lease_node="")
    assert manager.poll().sent == 1
    entry = PauseQueueEntry.objects.get(ref="large:1")
    assert isinstance(asks(), str), "until it has started, nobody takes its place"
    assert asks(LARGE) == ()
    PauseQueueEntry.objects.filter(pk=entry.pk).update(confirmed_at=F("sent_at"))
    ramp = PollState.objects.get().ramp
    ramp["held_for"][HERE]["until"] = 1.0
    PollState.objects.update(ramp=ramp)
    assert asks() == ()


@pytest.mark.req("P-39")
def test_a_claim_that_waits_for_the_node_while_a_poll_keeps_it_is_refused():
    """What it knew of the poll before it had the lock is old by then."""
    node()
    small = make_run("scripted", items=100)
    Ticket.objects.all().delete()
    for number in range(4):
        assert leased_by(small, str(number)) is not None
    manager.pause_work([WithheldDispatch("large:1", "others.work", "control", LARGE)], reason="full")
    later(3600)

    with transaction.atomic():
        nodes.lock(HERE)
        claim = in_thread(asks)
        wait_until_blocked(claim)
        poll = in_thread(manager.poll)
        poll.join()
    claim.join()

    assert PollState.objects.get().ramp["held"] == [HERE]
    assert claim.result == f"{HERE} has 4 of 8 cores free, 1 core needed; it is kept free for 6 cores."


def leased_by(
    run: AutomationRun, name: str, suits: Callable[[str, Sequence[str]], bool] | None = None
) -> LeasedSlice | None:
    stage_run = stage_of(run)
    needs = SMALL
    room = partial(admission.room_here, needs=needs, pipeline=run.pipeline, run_id=run.pk)
    try:
        worker = Worker(f"test/{name}", HERE)
        return leases.claim(stage_run.pk, worker, room=room, suits=suits)
    except NoRoom:
        return None


class TestASliceWhoseWorkerWasLost:
    """It keeps its admission on its node for half a minute."""

    def lost(self) -> AutomationRun:
        node(cores=2)
        run = make_run("scripted", items=2)
        Ticket.objects.all().delete()
        assert leased_by(run, "a") is not None
        full()
        assert leases.reap(["test/a"])
        return run

    @pytest.mark.req("P-39")
    def test_its_run_is_not_parked_and_its_next_loop_needs_no_room(self):
        run = self.lost()

        reconciler.reconcile()

        assert not PauseQueueEntry.objects.exists()
        assert tickets(run) == 1
        assert leased_by(run, "b") is not None
        assert leased_by(run, "c") is None, "one admission, one loop"

    def test_racing_loops_share_no_admission(self):
        run = self.lost()

        found = race(*[partial(leased_by, run, name) for name in "bcde"])

        assert sum(work is not None for work in found) == 1

    def test_it_is_a_load_of_its_node_meanwhile(self):
        run = self.lost()
        node(cores=2)
        other = make_run("scripted", items=10)
        assert tickets(other) == 1, "of two cores one is kept"
        assert tickets(run) <= 1

    def test_elsewhere_it_asks_as_anybody(self):
        run = self.lost()
        node("other", foreign=8)
        room = partial(admission.room_here, needs=SMALL, pipeline=run.pipeline, run_id=run.pk)

        with pytest.raises(NoRoom):
            leases.claim(stage_of(run).pk, Worker("test/b", "other"), room=room)

    def test_its_cards_go_to_a_loop_that_may_use_them_and_to_no_other(self):
        node("gpu-node", cores=64, gpus=(gpu(0), gpu(1)))
        run = make_run("on-gpu", items=3)
        declared = get_pipeline("on-gpu").stages[0]

        def leased(name: str, suits: Callable[[str, Sequence[str]], bool] | None = None) -> LeasedSlice | None:
            room = partial(admission.room_here, needs=declared.needs, pipeline=run.pipeline, run_id=run.pk)
            at = Worker(f"test/{name}", "gpu-node")
            return leases.claim(stage_of(run).pk, at, room=room, suits=suits)

        first = leased("a")
        assert first is not None
        assert leases.reap(["test/a"])

        blind = leased("b", lambda _, ids: not set(ids) & set(first.gpus))
        assert blind is not None
        assert set(blind.gpus).isdisjoint(first.gpus), "it asked, and was given the other"
        assert blind.slice_id == first.slice_id

        second = leased("c")
        assert second is not None
        assert leases.reap(["test/c"])
        again = leased("d")
        assert again is not None
        assert (again.slice_id, again.gpus) == (second.slice_id, second.gpus)

    def test_after_half_a_minute_it_is_a_newcomer(self):
        run = self.lost()
        WorkSlice.objects.update(lost_at=F("lost_at") - timedelta(seconds=times.KEEPS_PLACE_SECONDS))

        dispatch.dispatch()

        assert tickets(run) == 0
        assert PauseQueueEntry.objects.waiting().get().ref == run.scope

    @pytest.fixture
    def here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """This process knows that it is on the node."""
        monkeypatch.setattr(identity, "_known", HERE)
        Machine.objects.create(boot_id=processes.boot_id(), name=HERE)

    def contained(self, **limits: object) -> None:
        """This process is in a container with these limits."""
        me = ContainerView(processes.container(), "me", **limits)  # type: ignore[arg-type]
        make_node(HERE, cores=2.0, foreign_cores=2.0, containers=(me, ContainerView("other", "other")))

    @pytest.mark.usefixtures("here")
    def test_a_container_that_has_no_room_for_it_does_not_take_it(self):
        """Or it would be killed there again for want of memory, until it is given up."""
        run = self.lost()
        self.contained(memory_mib=512, free_memory_mib=100)
        suits = partial(manager.suits_here, needs=Needs(cpu=1, memory_mib=400))
        assert leased_by(run, "b", suits=suits) is None

        self.contained(memory_mib=512, free_memory_mib=500)
        assert leased_by(run, "b", suits=suits) is not None

    @pytest.mark.usefixtures("here")
    def test_a_loop_takes_it_only_with_cards_that_it_has_or_can_see(self):
        run = self.lost()
        WorkSlice.objects.filter(lost_at__isnull=False).update(lease_gpus=["GPU-0"])
        needs = Needs(gpus=1)
        make_node(HERE, foreign_cores=8.0, gpus=(gpu(0), gpu(1)))

        assert leased_by(run, "b", suits=partial(manager.suits_here, needs=needs, among=["GPU-1"])) is None, (
            "it works on another card, and would be booked on this one"
        )
        blind = ContainerView(processes.container(), "me", gpus=("GPU-1",), gpu_numbers=(0,))
        make_node(HERE, foreign_cores=8.0, gpus=(gpu(0), gpu(1)), containers=(blind,))
        assert leased_by(run, "b", suits=partial(manager.suits_here, needs=needs)) is None, "it cannot see that card"

        make_node(HERE, foreign_cores=8.0, gpus=(gpu(0, problem="lost"), gpu(1)))
        assert leased_by(run, "b", suits=partial(manager.suits_here, needs=needs)) is None

        make_node(HERE, foreign_cores=8.0, gpus=(gpu(0), gpu(1)))
        work = leased_by(run, "b", suits=partial(manager.suits_here, needs=needs))
        assert work is not None
        assert work.gpus == ["GPU-0"]

    def test_one_that_was_given_back_in_order_keeps_nothing(self):
        node(cores=2)
        run = make_run("scripted", items=2)
        Ticket.objects.all().delete()
        work = leased_by(run, "a")
        assert work is not None
        full()
        leases.release(work)

        assert leased_by(run, "b") is None
