"""A run that fits nowhere waits in the pause queue; one that has a loop at work never does."""

from __future__ import annotations

import pytest

from automation import dispatch, gate, leases, tasks
from automation.models import AutomationRun, Lifecycle, Ticket
from automation.reports import status
from automation.runs import lifecycle, reconciler
from pause_manager import capacity, holds, manager, pause_queue, workloads
from pause_manager.actor import Actor
from pause_manager.capacity.needs import Needs
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import OPERATOR, drain, events, leased, make_run, numbers, outputs, run_loop, tickets
from tests.support.pipelines import scripted
from tests.support.sampled_fleet import HERE, deliver, full, messages, node, vanish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


def shown(run: AutomationRun) -> str:
    return status.of(AutomationRun.objects.with_leases().get(pk=run.pk))


def waiting(run: AutomationRun) -> PauseQueueEntry:
    return PauseQueueEntry.objects.waiting().get(ref=run.scope)


def is_waiting(run: AutomationRun) -> bool:
    return PauseQueueEntry.objects.waiting().filter(ref=run.scope).exists()


def reasons(run: AutomationRun) -> list[str]:
    run.refresh_from_db()
    return [reason.code for reason in gate.explain(run)]


@pytest.mark.req("P-01", "P-11", "P-13", "P-14")
def test_a_run_that_fits_nowhere_is_parked_and_says_why():
    full()

    run = make_run()

    entry = waiting(run)
    assert (tickets(run), messages("stages")) == (0, [])
    assert shown(run) == "paused"
    assert (entry.task_name, entry.args, entry.queue) == ("automation.go_on", [str(run.pk)], "control")
    assert entry.needs == {"cpu": 1.0, "memory_mib": 0, "gpu_memory_mib": 0, "gpus": 0}
    run.refresh_from_db()
    (reason,) = gate.explain(run)
    assert (reason.code, reason.actor, reason.lifted_by) == (
        "capacity",
        "capacity",
        "there is room, or an operator starts it anyway (resume_run --force)",
    )
    assert f"{HERE}, the only node that can run this, has 0 of 8 cores free, 1 core needed; " in reason.sentence
    (event,) = events(run, "parked")
    assert (event.details["best_free_share"], event.details["threshold"], event.details["nodes"]) == (0.0, 0.2, 1)


@pytest.mark.req("P-02", "P-03")
def test_a_node_at_the_threshold_takes_the_run():
    full("other")
    node(cores=10, foreign=8)

    assert tickets(make_run()) > 0


@pytest.mark.req("P-26")
def test_the_queues_of_forced_runs_are_served_and_their_loops_give_way_to_nobody():
    full()
    run, other = make_run(), make_run()
    assert workloads.override_queues() == frozenset()

    assert manager.force_resume(waiting(run).pk, actor=OPERATOR, reason="the demo")
    deliver()

    assert workloads.override_queues() == {"stages"}
    assert is_waiting(other)
    work = leased(run)
    assert [load.can_yield for load in workloads.allocations_by_node("node-1")["node-1"]] == [False]
    leases.release(work)
    assert drain(run).lifecycle == Lifecycle.COMPLETED
    assert workloads.override_queues() == frozenset()


def test_a_spike_of_a_second_parks_nothing_and_saturates_nothing():
    spike = node(foreign=8, steady=0)

    run = make_run()

    assert not is_waiting(run)
    assert drain(run).lifecycle == Lifecycle.COMPLETED, "its loops were admitted to the node"
    _, judgement = capacity.judge(spike, capacity.NodeState(), capacity.Policy(), spike.sampled_at)
    assert judgement.code == "free"


@pytest.mark.req("P-08")
def test_without_any_node_a_run_is_parked():
    run = make_run()

    assert waiting(run).reason == "No node is online: no node has ever reported."


@pytest.mark.req("P-09")
def test_a_node_that_fell_silent_does_not_count():
    node()
    vanish()

    run = make_run()

    assert waiting(run).reason.startswith("No node is online")


@pytest.mark.req("P-10")
def test_an_error_means_pause_and_the_run_goes_on_when_it_is_over():
    node()

    class Broken(workloads.Workload):
        def allocations(self, node):
            raise RuntimeError("the loads cannot be read")

    broken = workloads.register(Broken())
    try:
        run = make_run()
        told = manager.should_pause(Needs())
    finally:
        workloads.unregister(broken)

    sentence = "Capacity could not be judged: RuntimeError: the loads cannot be read."
    assert (told.should_pause, told.code, told.sentence) == (True, "unreadable", sentence)
    assert waiting(run).reason == sentence
    assert tickets(run) == 0
    assert manager.poll().sent == 1


def test_only_as_many_loops_are_sent_as_fit():
    node(cores=4)

    run = make_run("scripted", items=100)

    assert tickets(run) == 4
    assert not is_waiting(run)
    assert shown(run) == "running"


def test_two_runs_share_what_there_is_and_a_third_waits():
    node(cores=4)

    first, second, third = (make_run("scripted", items=10) for _ in range(3))

    assert [tickets(run) for run in (first, second, third)] == [2, 2, 0]
    assert waiting(third).reason.startswith("No node has room for 1 core on top of work already sent: ")
    assert shown(third) == "paused"


@pytest.mark.parametrize("end", [lifecycle.pause, lifecycle.cancel, "completed"])
def test_messages_that_will_start_nothing_take_nobodys_room(end):
    node(cores=2)
    run = make_run("scripted", items=10)
    assert tickets(run) == 2
    if end == "completed":  # one loop did it all, and the other's message is still in the broker
        run_loop(run)
        run.refresh_from_db()
        assert (run.lifecycle, tickets(run)) == ("completed", 1)
    else:
        end(run.pk, actor=OPERATOR)
        assert tickets(run) == 2

    other = make_run("scripted", items=10)

    assert not is_waiting(other)
    assert tickets(other) == 2


def test_a_run_with_one_loop_at_work_is_never_parked():
    node()
    run = make_run("scripted", items=100)
    work = leased(run)
    Ticket.objects.all().delete()
    full()

    reconciler.reconcile()
    dispatch.dispatch([work.stage_run_id])

    assert not is_waiting(run)
    assert shown(run) == "running"
    assert not Hold.objects.active().exists()


def test_a_run_whose_message_is_under_way_is_not_parked():
    node()
    run = make_run("scripted", items=100)
    assert tickets(run) > 0
    full()

    reconciler.reconcile()

    assert not is_waiting(run)


def test_a_run_with_another_stage_at_work_is_not_parked():
    node(cores=1)
    run = make_run("diamond", items=10)
    both = run.stages.filter(lifecycle=Lifecycle.RUNNING)

    reconciler.reconcile()

    assert (both.count(), tickets(run), is_waiting(run)) == (2, 1, False)
    Ticket.objects.all().delete()
    full()
    reconciler.reconcile()
    assert is_waiting(run), "nothing is at work any more"


def test_a_loop_that_yields_gives_its_slice_back_and_the_run_goes_on_later():
    node()
    run = make_run("scripted", items=10)

    def strangers_come(item, ctx):
        if item["n"] == 3:
            full()
            slices = [
                ref
                for name, found in workloads.allocations_by_node().items()
                if name == HERE
                for ref in (load.ref for load in found)
            ]
            from pause_manager.messaging import notifier

            workloads.give_way(slices, "strangers need 8 cores")
            notifier.publish(f"node:{HERE}")
            ctx.sleep(8)

    with scripted(strangers_come):
        Ticket.objects.exclude(pk=Ticket.objects.order_by("pk").values("pk")[:1]).delete()
        run_loop(run)

    assert len(outputs(run)) in (2, 3)
    assert run.stages.get(slug="scripted").slices.filter(lease_token__isnull=False).count() == 0
    (stopped,) = events(run, "stopped")
    assert stopped.details["code"] == "yield"
    assert "strangers need 8 cores" in stopped.reason
    assert is_waiting(run)
    assert shown(run) == "paused"

    node()
    assert manager.poll().sent == 1
    deliver()
    assert drain(run).lifecycle == Lifecycle.COMPLETED
    assert sorted(row["n"] for row in outputs(run)) == [row["n"] for row in numbers(10)]


@pytest.mark.req("P-25")
def test_automatic_resume_leaves_an_operators_hold_alone():
    full()
    run = make_run()
    lifecycle.pause(run.pk, actor=OPERATOR, reason="hands off")
    node()

    done = manager.poll()

    assert done.sent == 0
    assert is_waiting(run)
    assert reasons(run) == ["operator", "capacity"]

    lifecycle.resume(run.pk, actor=OPERATOR)
    assert is_waiting(run), "an operator's resume does not make room"
    assert manager.poll().sent == 1
    assert reasons(run) == ["no_worker"], "which keeps nothing"


def test_cancelling_a_parked_run_drops_its_entry():
    full()
    run = make_run()

    lifecycle.cancel(run.pk, actor=OPERATOR)

    entry = PauseQueueEntry.objects.get(ref=run.scope)
    assert (entry.outcome, entry.finished_at is not None) == ("dropped", True)
    assert shown(run) == "cancelled"
    node()
    assert manager.poll().sent == 0


@pytest.mark.req("P-26")
def test_a_forced_run_goes_on_whatever_the_capacity_says_and_is_not_parked_again():
    full()
    run = make_run()

    assert manager.force_resume(waiting(run).pk, actor=OPERATOR, reason="the demo is now")

    assert tickets(run) > 0
    assert not is_waiting(run)
    reconciler.reconcile()
    assert drain(run).lifecycle == Lifecycle.COMPLETED
    assert PauseQueueEntry.objects.filter(ref=run.scope).count() == 1
    (event,) = events(run, "sent_on")
    assert (event.actor, event.reason, event.details["forced"]) == (OPERATOR.name, "the demo is now", True)


def test_a_second_force_finds_nothing():
    full()
    run = make_run()
    pk = waiting(run).pk

    assert manager.force_resume(pk, actor=OPERATOR)
    assert not manager.force_resume(pk, actor=OPERATOR)
    assert not manager.force_pause(pk, actor=OPERATOR)


@pytest.mark.req("P-26")
def test_force_pause_puts_an_operators_hold_on_the_run_that_waits():
    full()
    run = make_run()

    assert manager.force_pause(waiting(run).pk, actor=OPERATOR, reason="not today")

    assert reasons(run) == ["operator", "capacity"]
    node()
    assert manager.poll().sent == 0


@pytest.mark.req("P-12")
def test_nothing_to_withhold_writes_nothing():
    assert manager.pause_work([], reason="full") == 0
    assert not PauseQueueEntry.objects.exists()


@pytest.mark.req("P-11", "P-15")
def test_every_withheld_dispatch_has_an_entry():
    parked = [WithheldDispatch(f"import:{n}", "tests.echo", "control", Needs(), args=[n]) for n in range(5)]

    assert manager.pause_work(parked, reason="full") == 5
    assert manager.pause_work(parked[:2], reason="full") == 2, "they wait already"
    assert PauseQueueEntry.objects.waiting().count() == 5


def test_a_run_that_ended_meanwhile_is_not_parked():
    from automation.dispatch import admission

    full()
    node_wants = admission.Admission()
    run = make_run()
    entry = waiting(run)
    lifecycle.cancel(run.pk, actor=OPERATOR)
    want = admission.LoopRequest(stage_of_any(run), "echo", run.pk, "numbers", 3, False, "stages", 0, 1, Needs())
    node_wants.parked["full"] = [want]
    node_wants.figures["full"] = {}

    admission.park(node_wants)

    assert not is_waiting(run)
    assert not Hold.objects.active().exists()
    assert PauseQueueEntry.objects.filter(ref=run.scope).get() == entry


def stage_of_any(run: AutomationRun) -> int:
    return run.stages.order_by("-position")[0].pk


@pytest.mark.req("M-27")
def test_a_held_node_leases_nothing_and_its_loops_do_not_spin():
    node()
    run = make_run("scripted", items=20)
    holds.place([f"node:{HERE}"], actor=OPERATOR, reason="new memory")

    drain(run, limit=20)

    assert (outputs(run), tickets(run), shown(run)) == ([], 0, "waiting")
    assert events(run, "stopped") == []
    reconciler.reconcile()
    assert not is_waiting(run), "it waits for an operator, not for capacity"
    [reason] = gate.explain(run)
    assert reason.sentence == f"No node may take new work: {HERE} was paused by olga: new memory."

    holds.release([f"node:{HERE}"], actor=OPERATOR)
    assert tickets(run) > 0
    assert drain(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("M-27")
def test_a_hold_on_another_node_stops_nothing_here():
    node()
    holds.place(["node:elsewhere"], actor=OPERATOR, reason="new memory")

    assert drain(make_run()).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("M-27")
def test_a_drained_node_starts_nothing_new_even_without_room_being_watched(settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "capacity": False}
    run = make_run("scripted", items=20)
    holds.place([f"node:{HERE}"], mode=Hold.Mode.DRAIN, actor=OPERATOR, reason="new memory")

    drain(run, limit=20)

    assert (outputs(run), tickets(run)) == ([], 0)


def test_a_loop_that_finds_its_node_full_leaves_the_rest_to_the_reconciler():
    node()
    run = make_run("scripted", items=20)
    full()

    ticket = Ticket.objects.order_by("pk")[0]
    Ticket.objects.exclude(pk=ticket.pk).delete()
    tasks.stage_loop(ticket.stage_run_id, ticket.pk)

    assert (outputs(run), tickets(run), is_waiting(run)) == ([], 0, False)
    reconciler.reconcile()
    assert is_waiting(run)


def test_a_run_parked_again_keeps_count():
    full()
    run = make_run()
    node()
    manager.poll()
    full()

    deliver()

    assert waiting(run).attempts == 1


def test_releasing_the_capacity_hold_by_hand_ends_the_waiting():
    full()
    run = make_run()
    node()

    holds.release([run.scope], kind=Hold.Kind.CAPACITY, actor=Actor("user:olga", "api"))

    assert not is_waiting(run)
    assert PauseQueueEntry.objects.get(ref=run.scope).outcome == "dropped"
    assert tickets(run) > 0
    assert pause_queue.send_on([PauseQueueEntry.objects.get().pk], actor=OPERATOR, reason="late") == 0
