"""Who goes first: newcomers queue behind what waits, and each pipeline goes on by its own thresholds."""

from __future__ import annotations

import pytest

from automation import dispatch
from automation.models import AutomationRun, Lifecycle, Ticket
from automation.runs import lifecycle, reconciler
from pause_manager import manager
from pause_manager.capacity.needs import Needs
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import OPERATOR, drain, events, make_run, outputs, run_loop, tickets
from tests.support.pipelines import scripted
from tests.support.sampled_fleet import deliver, full, messages, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


def between() -> None:
    """A quarter is free: enough to start, not to go on with what was parked."""
    node(cores=10, foreign=7.5)


def wait(ref: str = "import:1", needs: Needs | None = None, priority: int = 3) -> None:
    parked = WithheldDispatch(ref, "others.work", "control", needs or Needs(), priority=priority)
    manager.pause_work([parked], reason="full")


def why(run: AutomationRun) -> str:
    return PauseQueueEntry.objects.waiting().get(ref=run.scope).reason


def is_waiting(run: AutomationRun) -> bool:
    return PauseQueueEntry.objects.waiting().filter(ref=run.scope).exists()


def urgent_run(priority: int) -> AutomationRun:
    run = make_run(start=False)
    AutomationRun.objects.filter(pk=run.pk).update(priority=priority)
    return lifecycle.start_run(run.pk, actor=OPERATOR, reason="")


@pytest.mark.req("P-22", "P-39")
def test_a_newcomer_does_not_pass_what_waits_and_is_no_larger():
    between()
    assert tickets(make_run()) > 0, "alone it may start"
    Ticket.objects.all().delete()
    wait()

    run = make_run()

    assert why(run) == "Queued behind work that needs no more resources and is at least as urgent."
    node(cores=10)
    assert manager.poll().sent == 1
    assert [message.task for message in messages()] == ["others.work"], "the older one goes first"
    assert manager.poll().sent == 1
    deliver()
    assert tickets(run) == 1


@pytest.mark.parametrize(
    ("waiting", "priority"),
    [
        ({"needs": Needs(cpu=2)}, 3),
        ({"needs": Needs(cpu=1, gpus=1)}, 3),
        ({"priority": 3}, 2),
    ],
)
def test_what_is_larger_or_less_urgent_is_not_in_the_way(waiting, priority):
    between()
    wait(**waiting)

    assert tickets(urgent_run(priority)) > 0


def test_ageing_makes_what_waits_more_urgent(settings):
    policy = {**settings.PAUSE_MANAGER["policy"], "queue": {"ageing_seconds": 0.001}}
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "policy": policy}
    between()
    wait(priority=5)

    assert is_waiting(urgent_run(1))


def test_a_run_that_has_worked_keeps_one_loop_and_gets_no_more_while_others_wait(settings):
    node(cores=10)
    run = make_run("scripted", items=100)
    Ticket.objects.exclude(pk=Ticket.objects.order_by("pk").values("pk")[:1]).delete()
    between()
    wait()

    settings.AUTOMATION = {**settings.AUTOMATION, "loop_seconds": 0.3}
    with scripted(lambda item, ctx: ctx.sleep(0.2)):
        run_loop(run)

    assert outputs(run)
    assert (tickets(run), is_waiting(run)) == (1, False)
    reconciler.reconcile()
    dispatch.dispatch()
    assert (tickets(run), is_waiting(run)) == (1, False)
    node(cores=10)
    assert manager.poll().sent == 1
    reconciler.reconcile()
    assert tickets(run) > 1, "nobody waits any more"


@pytest.mark.req("P-20")
def test_a_run_that_was_sent_on_is_not_sent_back_by_the_reconciler():
    full()
    run = make_run()
    between()
    wait()
    node(cores=10)
    assert manager.poll().sent == 1
    between()

    reconciler.reconcile()

    assert (tickets(run), is_waiting(run)) == (1, False)
    deliver()
    assert drain(run).lifecycle == Lifecycle.COMPLETED


def owns(settings, pipeline: str, **policy: float) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "pipeline_policies": {pipeline: {"thresholds": policy}}}


def test_a_pipeline_goes_on_by_its_own_thresholds(settings):
    full()
    careful, usual = make_run("scripted"), make_run()
    owns(settings, "scripted", pause_below=0.5, resume_above=0.7)
    node(cores=10, foreign=4)

    assert [manager.poll().sent for _ in range(3)] == [1, 0, 0]
    assert (is_waiting(careful), is_waiting(usual)) == (True, False)
    node(cores=10, foreign=3)
    assert manager.poll().sent == 1
    owns(settings, "scripted", pause_below=0.05, resume_above=0.1)
    deliver()
    full()
    reconciler.reconcile()
    Ticket.objects.all().delete()
    reconciler.reconcile()
    assert is_waiting(careful)
    node(cores=10, foreign=8.8)
    assert manager.poll().sent == 1, "it is content with what the fleet's policy keeps free"


def test_a_pipeline_that_keeps_more_free_is_in_nobodys_way(settings):
    owns(settings, "scripted", pause_below=0.5, resume_above=0.7)
    node(cores=10, foreign=6)
    careful = make_run("scripted")
    assert is_waiting(careful)

    assert tickets(make_run()) > 0


def test_the_figures_of_what_was_sent_on_name_its_own_threshold(settings):
    full()
    run = make_run("scripted")
    owns(settings, "scripted", pause_below=0.4, resume_above=0.6)
    node(cores=10)
    manager.poll()

    (event,) = events(run, "sent_on")
    assert event.details["resume_above"] == 0.6
