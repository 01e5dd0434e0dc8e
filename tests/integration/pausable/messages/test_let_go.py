"""What a worker had begun to decide about is nobody's any more once it lets go of the message: another may run it."""

from __future__ import annotations

import json
import re
import time

import pytest

from pause_manager.fleet import drain
from pause_manager.models import FleetWorker, PauseQueueEntry, RunningTask
from tests.support.foreign_project import QUEUE, Foreign, hold, reconciled, release
from tests.support.proxy import Fault, PostgresProxy
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(0.5, id="amid a task", marks=pytest.mark.slow),
        pytest.param(0.1, id="as the next is submitted", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_ends_gives_up_what_waits_for_a_process(foreign: Foreign, before: float):
    foreign.worker("one", "-c", "1", "--prefetch-multiplier", "4")
    ids = foreign.keep(*[("steady", f"t{number}", 1) for number in range(4)])
    release()
    assert eventually(lambda: len(foreign.notes("steady")) == 2, every=0.005)
    assert eventually(lambda: RunningTask.objects.count() >= 2, every=0.005), "one is decided about and waits"

    time.sleep(1 - before)
    foreign.workers.stop("one")
    foreign.worker("two", "-c", "1")

    assert reconciled(lambda: len(foreign.notes("steady-end")) == 4), (
        foreign.workers.said("one")[-3000:] + foreign.workers.said("two")[-3000:]
    )
    assert [foreign.ended(one)[0] for one in ids] == ["SUCCESS"] * 4
    assert len(foreign.notes("steady")) == 4, "each once"


@pytest.mark.slow
def test_what_a_killed_worker_had_not_begun_runs_when_the_broker_delivers_it_again(foreign: Foreign):
    foreign.worker("one", "-c", "1", "--prefetch-multiplier", "4", FOREIGN_VISIBILITY="12")
    foreign.keep(*[("steady", f"t{number}", 6) for number in range(4)])
    release()
    assert eventually(lambda: RunningTask.objects.count() == 2 and foreign.notes("steady"))

    foreign.workers.kill("one")
    assert reconciled(lambda: not RunningTask.objects.exists()), "the poll found them lost before they came again"
    foreign.worker("two", "-c", "4", FOREIGN_VISIBILITY="12")

    assert reconciled(lambda: len(foreign.notes("steady-end")) == 3), foreign.workers.said("two")[-3000:]
    assert sorted(note[1] for note in foreign.notes("steady")) == ["t0", "t1", "t2", "t3"], "each was begun once"


@pytest.mark.slow
def test_an_answer_whose_commit_was_not_heard_of_is_void_when_the_message_goes_back(
    foreign_behind: Foreign, proxy: PostgresProxy
):
    foreign_behind.worker("one", "-c", "1", FOREIGN_OPTIONS=json.dumps({"permit_seconds": 3.0}))
    (kept,) = foreign_behind.keep(("add", 1, 2))
    fault = Fault(re.compile(r"COMMIT.*runningtask", re.I | re.S), when="after")
    proxy.arm(fault)
    release()
    assert fault.fired.wait(15)
    with proxy.away():
        time.sleep(8)
    proxy.disarm()

    assert reconciled(lambda: foreign_behind.notes("add")), foreign_behind.workers.said("one")[-3000:]
    assert foreign_behind.ended(kept) == ["SUCCESS", 3]
    assert foreign_behind.notes("add") == [["add", 1, 2]]
    assert eventually(lambda: not RunningTask.objects.exists())
    assert not PauseQueueEntry.objects.waiting().exists()


@pytest.mark.slow
def test_a_name_that_no_database_takes_blinds_no_worker(foreign: Foreign):
    foreign.worker("one", "-c", "1", FOREIGN_OPTIONS=json.dumps({"permit_seconds": 3.0}))
    foreign.send("steady", "long", 8, shadow="a\0b")
    assert eventually(lambda: foreign.notes("steady"))
    hold()

    assert eventually(lambda: drain.measure().unreported == 0)
    assert drain.measure().running == 1
    assert eventually(lambda: drain.measure().is_drained)
    assert "cannot be read" not in foreign.workers.said("one")


@pytest.mark.parametrize(
    "pool",
    [
        pytest.param(("-c", "2"), id="prefork"),
        pytest.param(("-P", "threads", "-c", "2"), id="threads", marks=pytest.mark.slow),
    ],
)
def test_a_rest_that_cannot_be_written_is_an_error_of_its_task(foreign: Foreign, pool: tuple[str, ...]):
    foreign.worker("one", *pool)
    sent = foreign.send("leaves_nonsense")

    assert foreign.ended(sent)[0] == "FAILURE"

    assert eventually(lambda: FleetWorker.objects.get().in_hand == {}), "nothing stays in hand"


@pytest.mark.slow
def test_many_that_wait_for_a_process_are_kept_without_costing_it_its_place(foreign: Foreign):
    foreign.worker("one", "-c", "1")
    foreign.send("steady", "long", 14)
    assert eventually(lambda: foreign.notes("steady"))
    foreign.desk().ask("send_many", "silent", 700, countdown=6)
    assert eventually(lambda: foreign.workers.said("one").count("silent[") == 700, 120)
    time.sleep(7)  # their time has come: all wait for the one process

    hold()

    assert eventually(lambda: PauseQueueEntry.objects.waiting().count() == 700, 60)
    assert foreign.notes("silent") == []
    release()
    assert reconciled(lambda: len(foreign.notes("silent")) == 700, 120), foreign.workers.said("one")[-3000:]
    assert "RecursionError" not in foreign.workers.said("one")


@pytest.mark.slow
def test_a_hold_on_another_queue_makes_no_worker_report_all_the_time(foreign: Foreign):
    foreign.worker("one", "-Q", f"{QUEUE},other", "-c", "2", "--prefetch-multiplier", "8")
    hold("queue:other")
    foreign.desk().ask("send_many", "silent", 1500)
    assert eventually(lambda: len(foreign.notes("silent")) > 20)

    seen = set()
    until = time.monotonic() + 3
    while time.monotonic() < until:
        seen.add(FleetWorker.objects.values_list("last_seen_at", flat=True).get())
        time.sleep(0.01)

    assert len(foreign.notes("silent")) > 40, "it was at work all the while"
    assert len(seen) <= 8, "one a second, and what was going on when we began to look"
