"""A pausable task that arrives while held waits, and runs once when it may; in every pool."""

from __future__ import annotations

import time

import pytest

from pause_manager import pausable
from pause_manager.fleet import drain
from pause_manager.models import ControlEvent, PauseQueueEntry, RunningTask
from tests.support.foreign_project import Foreign, hold, reconciled, release, waiting
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

POOLS = {
    "prefork": ("-c", "2"),
    "threads": ("-P", "threads", "-c", "2"),
    "gevent": ("-P", "gevent", "-c", "2"),
    "solo": ("-P", "solo"),
}


@pytest.mark.req("W-23", "W-24", "W-26", "W-28")
@pytest.mark.parametrize(
    ("pool", "acks_late"),
    [
        ("prefork", "0"),
        pytest.param("prefork", "1", marks=pytest.mark.slow),
        pytest.param("threads", "1", marks=pytest.mark.slow),
        pytest.param("gevent", "0", marks=pytest.mark.slow),
        pytest.param("solo", "1", marks=pytest.mark.slow),
    ],
)
def test_a_held_task_waits_and_a_quiesced_one_leaves(foreign: Foreign, pool: str, acks_late: str):
    foreign.worker("one", *POOLS[pool], FOREIGN_ACKS_LATE=acks_late)

    (sent,) = foreign.keep(("add", 1, 2))

    entry = PauseQueueEntry.objects.waiting().get()
    assert (entry.ref, entry.task_name, entry.queue) == (f"task:{sent}", "tests.foreign.tasks.add", "foreign")
    assert foreign.desk().ask("state", sent) == ["PENDING", None], "it has neither started nor ended"

    release()

    assert foreign.ended(sent) == ["SUCCESS", 3]
    assert foreign.notes() == [["add", 1, 2]]
    entry.refresh_from_db()
    assert (entry.outcome, entry.generation, entry.confirmed_at is not None) == ("sent", 1, True)
    told = ControlEvent.objects.filter(scope=entry.ref).order_by("id").values_list("action", "actor")
    assert list(told) == [("parked", "system"), ("sent_on", "user:operator")]

    chord = foreign.desk().ask("pieces", 3.0)
    assert eventually(lambda: len(foreign.notes("piece")) >= 3)
    expected = {("tests.foreign.tasks.slow", "foreign", False)}
    assert eventually(lambda: {(one.task_name, one.queue, one.is_stale) for one in pausable.running()} == expected)

    hold(mode="quiesce")

    # A solo pool has one of them in hand; the other may have stayed in the broker.
    left = 1 if pool == "solo" else 2
    assert eventually(lambda: len(foreign.notes("left")) >= left), foreign.workers.said("one")[-3000:]
    assert eventually(lambda: PauseQueueEntry.objects.waiting().count() >= left)
    assert eventually(lambda: not RunningTask.objects.exists())
    done = len(foreign.notes("piece"))
    assert done < 20
    assert all(note[3] == "operator hold: upgrade" for note in foreign.notes("left"))

    release()

    assert foreign.ended(chord) == ["SUCCESS", ["a", "b"]]
    assert len(foreign.notes("piece")) == 20, "no piece was lost or done twice"
    assert len(foreign.notes("joined")) == 1
    assert eventually(lambda: not RunningTask.objects.exists())
    assert not PauseQueueEntry.objects.waiting().exists()


@pytest.mark.slow
def test_what_is_revoked_or_expires_while_it_waits_ends_as_celery_says(foreign: Foreign):
    foreign.worker()
    unheld = foreign.send("unheld", countdown=3)
    expiring = foreign.send("add", 2, 2, countdown=3, expires=5)
    revoked, good = (foreign.send("add", n, n, countdown=3, expires=600) for n in (1, 3))
    foreign.are_taken([unheld, expiring, revoked, good])
    hold()
    assert waiting(3)
    assert eventually(lambda: foreign.notes("unheld")), "this one is not pausable"
    foreign.desk().ask("revoke", revoked)
    time.sleep(3)

    release()

    assert foreign.ended(good) == ["SUCCESS", 6]
    assert foreign.ended(revoked)[0] == "REVOKED"
    assert foreign.ended(expiring)[0] == "REVOKED"
    assert foreign.notes("add") == [["add", 3, 3]]
    assert reconciled(lambda: not PauseQueueEntry.objects.unconfirmed().exists()), "nobody waits for their answer"
    assert not PauseQueueEntry.objects.filter(generation__gt=1).exists()


@pytest.mark.slow
@pytest.mark.req("W-19", "M-05")
def test_tasks_with_a_class_of_request_of_their_own_obey_and_are_counted(foreign: Foreign):
    foreign.worker("one", "-c", "1")
    foreign.keep(("asks", "a"))
    release()
    assert eventually(lambda: foreign.notes("asks") == [["asks", "a"]])
    assert foreign.notes("accepted"), "its own class had its say"

    foreign.send("asks_nobody", "b", 4.0)
    assert eventually(lambda: foreign.notes("asks_nobody"))
    hold()

    assert eventually(lambda: drain.measure("drain").running == 1), drain.measure("drain")
    assert eventually(lambda: drain.measure("drain").is_drained, 20)
    assert foreign.notes("asks_nobody-end")
