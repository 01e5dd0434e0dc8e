"""The poll: what waits goes on exactly once, in order, gently, and only where there is room."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from automation.models import Lifecycle
from automation.models.runs import lock_runs
from pause_manager import holds, manager, pause_queue
from pause_manager.capacity.needs import Needs
from pause_manager.database import advisory_locks
from pause_manager.models import ControlEvent, PauseQueueEntry, PollState
from pause_manager.pause_queue import poller, transitions
from pause_manager.pause_queue.writer import WithheldDispatch
from pause_manager.worker import node_monitor
from tests.support.factories import OPERATOR, drain, make_run
from tests.support.race import in_thread, race, wait_until_blocked
from tests.support.sampled_fleet import deliver, full, gpu, messages, node, vanish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]

CPU = Needs()
GPU = Needs(cpu=0, gpu_memory_mib=14_000, gpus=1)


def park(*refs: str, needs: Needs = CPU, **options: Any) -> None:
    """Withhold a task of somebody else's for each ref, one after the other."""
    for ref in refs:
        manager.pause_work(
            [WithheldDispatch(ref, "others.work", "control", needs, [ref], {"times": 2}, **options)], reason="full"
        )


def refs_sent() -> list[str]:
    return [message.args[0] for message in messages()]


def polls(count: int) -> list[int]:
    return [manager.poll().sent for _ in range(count)]


def polled_and_taken_up() -> int:
    """Poll once, and let workers take up what it sent."""
    sent = manager.poll().sent
    PauseQueueEntry.objects.unconfirmed().update(confirmed_at=Now())
    return sent


def later(seconds: float) -> None:
    """Let everything that waits have waited so much longer."""
    PauseQueueEntry.objects.update(paused_at=F("paused_at") - timedelta(seconds=seconds))


@pytest.mark.req("P-20")
def test_any_signature_can_wait_and_is_sent_once():
    park("import:7", needs=GPU)
    node(gpus=(gpu(),))

    assert polls(3) == [1, 0, 0]

    (message,) = messages()
    entry = PauseQueueEntry.objects.get()
    assert (message.task, message.args, message.kwargs) == ("others.work", ["import:7"], {"times": 2})
    assert message.id == f"parked-{entry.pk}"
    assert (entry.outcome, entry.finished_at is not None) == ("sent", True)
    event = ControlEvent.objects.get(action="sent_on")
    assert (event.scope, event.details["free_share"], event.details["resume_above"]) == ("import:7", 1.0, 0.3)


@pytest.mark.req("P-28")
def test_pauses_can_be_counted_and_timed_from_their_events():
    full()
    park("import:1", "import:2")
    run = make_run()
    later(90)
    node()

    assert [polled_and_taken_up() for _ in range(2)] == [1, 2]

    parked, sent = (ControlEvent.objects.filter(action=action).order_by("pk") for action in ("parked", "sent_on"))
    assert parked.count() == sent.count() == 3
    assert all(90 <= event.details["waited_seconds"] < 150 for event in sent)
    held = ControlEvent.objects.get(action="hold_released", scope=run.scope)
    assert held.details["held_seconds"] < 90, "the hold is as old as it is"


@pytest.mark.req("P-31")
def test_every_decision_is_logged_with_its_figures(caplog):
    figures = ("'nodes': 1", "'average_free_share': ", "'threshold': 0.2", "'totals': {'cores': 8")
    for view, word in ((full, "pause (below_threshold)"), (node, "go (has_room)")):
        view()
        caplog.clear()
        with caplog.at_level(logging.INFO, "pause_manager"):
            manager.should_pause(CPU)
        (line,) = [record.getMessage() for record in caplog.records if "Verdict" in record.getMessage()]
        assert line.startswith(f"Verdict {word}: ")
        assert all(figure in line for figure in figures), line

    park("import:1")
    caplog.clear()
    with caplog.at_level(logging.INFO, "pause_manager.pause_queue.poller"):
        assert polls(1) == [1]
    line = next(record.getMessage() for record in caplog.records if "Poll: " in record.getMessage())
    assert line.startswith("Poll: 1 entries continue, 0 wait; allowance 1, ")
    assert all(figure in line for figure in figures), line


@pytest.mark.req("P-31")
def test_a_claim_that_finds_no_room_is_logged_with_its_figures(caplog):
    full("other")

    with caplog.at_level(logging.INFO, "pause_manager.pause_queue.poller"), transaction.atomic():
        told = manager.admit_on("other", CPU)

    assert told == (
        "other, the only node that can run this, has 0 of 8 cores free, 1 core needed; "
        "new work starts there only with 1.6 cores free."
    )
    assert "'average_free_share': 0.0" in caplog.text


@pytest.mark.req("P-20")
def test_a_parked_run_goes_on_and_completes():
    full()
    run = make_run()
    node()

    assert polls(2) == [1, 0]

    assert [message.task for message in deliver()] == ["automation.go_on"]
    assert drain(run).lifecycle == Lifecycle.COMPLETED


@pytest.mark.req("P-20", "P-21")
def test_racing_pollers_and_operators_send_each_entry_once():
    node(cores=64)
    for start in range(5):
        park(*(f"import:{start}-{n}" for n in range(6)))
        ids = list(PauseQueueEntry.objects.waiting().values_list("pk", flat=True))
        force = partial(pause_queue.send_on, ids, actor=OPERATOR, reason="now")
        race(manager.poll, manager.poll, force, force)
        while manager.poll().sent:
            pass

    sent = refs_sent()
    assert sorted(sent) == sorted(f"import:{start}-{n}" for start in range(5) for n in range(6))


@pytest.mark.req("P-21", "P-24")
def test_a_second_poll_does_not_wait_for_the_first():
    node()
    park("import:1")
    with transaction.atomic():
        assert advisory_locks.lock_poll()
        other = in_thread(manager.poll)
        other.join(10)

    assert other.result.skipped == "another poll is in progress"
    assert polls(1) == [1]


def test_the_poll_and_a_cancel_do_not_wait_for_each_other_for_ever():
    from automation.runs import lifecycle

    full()
    run = make_run()
    node()
    with transaction.atomic():
        lock_runs([str(run.pk)])
        poll = in_thread(manager.poll)
        wait_until_blocked(poll)
        lifecycle.cancel(run.pk, actor=OPERATOR)
    poll.join()

    assert PauseQueueEntry.objects.get().outcome == "dropped"
    assert poll.result.sent == 0
    assert messages() == []


@pytest.mark.req("P-22")
def test_the_most_urgent_goes_first_then_the_oldest():
    park("late", "later", priority=3)
    park("urgent", priority=1)
    park("idle", priority=5)
    node(cores=64)

    while manager.poll().sent:
        pass

    assert refs_sent() == ["urgent", "late", "later", "idle"]


@pytest.mark.req("P-18")
def test_nothing_goes_on_before_its_time():
    node()
    park("import:1", resume_after=timezone.now() + timedelta(hours=1))

    assert polls(1) == [0]
    PauseQueueEntry.objects.update(resume_after=timezone.now() - timedelta(seconds=1))
    assert polls(1) == [1]


def test_more_go_on_with_each_poll_that_finds_room():
    park(*(f"import:{n}" for n in range(20)))
    node(cores=400)

    assert [polled_and_taken_up() for _ in range(6)] == [1, 2, 4, 8, 5, 0]


def test_a_ramp_backs_off_by_what_started_not_by_what_was_sent():
    park(*(f"import:{n}" for n in range(40)))
    node(cores=400)

    assert [polled_and_taken_up() for _ in range(3)] == [1, 2, 4]
    assert polls(1) == [8]
    came_back = PauseQueueEntry.objects.unconfirmed().order_by("pk")
    PauseQueueEntry.objects.filter(pk__in=list(came_back.values_list("pk", flat=True)[:5])).update(
        **transitions.REOPEN.values
    )
    came_back.update(confirmed_at=Now())

    assert polls(1) == [6], "twice the three that started"
    assert polls(1) == [1], "none of them has"


@pytest.mark.req("P-19")
def test_without_room_everything_waits_for_the_next_poll():
    full()
    park("import:1")

    assert polls(2) == [0, 0]
    assert PauseQueueEntry.objects.waiting().count() == 1
    node(cores=10, foreign=7.5)
    assert polls(1) == [0], "25% is enough to stay, not to come back"
    node(cores=10, foreign=7)
    assert polls(1) == [1]


@pytest.mark.req("P-38")
def test_one_free_gpu_lets_one_go_on():
    park("a", "b", "c", needs=GPU)
    node(gpus=(gpu(),))
    PollState.objects.create(pk=1, ramp={"allowance": 8, "polled_at": 0.0})

    assert polls(1) == [1]


@pytest.mark.req("P-38")
def test_what_was_sent_and_has_not_started_keeps_its_room():
    full()
    first, second = make_run("scripted"), make_run("scripted")
    node(cores=1)

    assert polls(1) == [1]
    deliver()

    assert polls(2) == [0, 0], "the one core is promised to the first"
    assert PauseQueueEntry.objects.waiting().get().ref == second.scope
    drain(first)
    assert polls(1) == [1]


@pytest.mark.req("P-37")
def test_a_node_that_can_never_run_it_does_not_count():
    node("cpu-only", cores=64)
    park("import:1", needs=GPU)

    assert polls(1) == [0]
    assert manager.should_pause(GPU).code == "no_eligible_node"
    assert not manager.should_pause(Needs()).should_pause


def test_while_the_fleet_is_held_what_waits_keeps_its_place():
    node()
    park("import:1")
    holds.place(["fleet"], actor=OPERATOR, reason="maintenance")

    assert manager.poll() == manager.Poll(0, 1, "the fleet is held")
    holds.release(["fleet"], actor=OPERATOR)
    assert polls(1) == [1]


@pytest.mark.req("P-09")
def test_a_silent_node_takes_nothing():
    node()
    park("import:1")
    vanish()

    assert polls(1) == [0]


@pytest.mark.req("P-16")
def test_what_waits_survives_a_new_connection():
    node()
    park("import:1")
    connection.close()

    assert polls(2) == [1, 0]


@pytest.mark.req("P-23")
def test_a_failing_poll_is_logged_backs_off_and_goes_on(caplog, settings):
    node()
    park("import:1")
    good = settings.PAUSE_MANAGER
    settings.PAUSE_MANAGER = {**good, "policy": {"thresholds": {"pause_below": 5}}}

    with caplog.at_level(logging.ERROR, "pause_manager.pause_queue.poller"):
        assert manager.poll().skipped == "it failed"
    assert "The poll failed; the next one is in 30 seconds." in caplog.text

    settings.PAUSE_MANAGER = good
    assert manager.poll().skipped == "it failed a short time ago"
    assert poller._failed_at is not None
    poller._failed_at -= poller.BACK_OFF_SECONDS
    assert polls(1) == [1]


SEND_ON = """
import django; django.setup()
from pause_manager import pause_queue
from pause_manager.actor import CAPACITY
from pause_manager.models import PauseQueueEntry
ids = list(PauseQueueEntry.objects.values_list("pk", flat=True))
print(pause_queue.send_on(ids, actor=CAPACITY, reason="room"))
"""


def test_while_the_broker_is_away_a_signature_waits_on(process_env, tmp_path):
    node()
    park("import:1")
    env = {**process_env, "REDIS_URL": f"unix://{tmp_path}/none.sock?db=0"}

    process = subprocess.run([sys.executable, "-c", SEND_ON], env=env, capture_output=True, text=True, timeout=60)

    assert process.stdout.strip() == "0", process.stderr
    assert "The broker is away" in process.stderr
    assert PauseQueueEntry.objects.waiting().count() == 1
    assert polls(1) == [1]
    assert refs_sent() == ["import:1"]


def test_a_worker_polls_when_beat_is_dead():
    node()
    park("import:1", "import:2")

    node_monitor.poll_if_beat_is_dead()
    assert PauseQueueEntry.objects.waiting().count() == 1, "nobody had ever polled"
    node_monitor.poll_if_beat_is_dead()
    assert PauseQueueEntry.objects.waiting().count() == 1, "the last poll is fresh"

    PollState.objects.update(polled_at=F("polled_at") - timedelta(seconds=31))
    node_monitor.poll_if_beat_is_dead()
    assert not PauseQueueEntry.objects.waiting().exists()


@pytest.mark.req("P-23")
def test_a_database_that_is_away_does_not_reach_the_caller(caplog):
    def away(execute, sql, params, many, context):
        raise OperationalError("the server closed the connection")

    with connection.execute_wrapper(away):
        assert manager.poll().skipped == "the database is away"
        assert manager.should_pause(Needs()).code == "unreadable"
