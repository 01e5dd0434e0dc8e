"""A PostgreSQL that has the question and never answers: nothing of a worker waits for it for ever."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time

import pytest

from pause_manager.models import PauseQueueEntry
from tests.support.foreign_project import QUEUE, Foreign, hold, reconciled, release
from tests.support.proxy import PostgresProxy
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

QUICK = json.dumps({"permit_seconds": 3.0, "worker_beat_seconds": 1.0, "poll_seconds": 1.0})


@pytest.mark.slow
@pytest.mark.req("W-39", "M-06")
def test_a_worker_goes_on_after_connections_that_never_answer(foreign_behind: Foreign, proxy: PostgresProxy):
    """Those it had and those that it made meanwhile are broken off; the next are served."""
    foreign_behind.worker("one", "-c", "1", FOREIGN_OPTIONS=QUICK)
    foreign_behind.keep(("add", 1, 2))

    with proxy.silent():
        release()
        # Longer than anything may wait for an answer, so that there are connections of both kinds.
        time.sleep(16)

    assert reconciled(lambda: foreign_behind.notes("add"), 40), foreign_behind.workers.said("one")[-3000:]
    assert foreign_behind.notes("add") == [["add", 1, 2]]
    said = foreign_behind.workers.said("one")
    assert re.search(r"does not answer \((the name of the machine|the holds)\): the connection is broken off", said)


@pytest.mark.slow
@pytest.mark.req("W-39")
def test_what_decides_about_a_message_is_broken_off_too(foreign_behind: Foreign, proxy: PostgresProxy):
    """The supervisor reads and the database thread decides: each has a connection of its own."""
    foreign_behind.worker("one", "-c", "1", FOREIGN_OPTIONS=QUICK)
    foreign_behind.send("steady", "long", 25.0)
    assert eventually(lambda: foreign_behind.notes("steady"))
    (sent,) = [foreign_behind.send("add", 1, 2, countdown=4)]
    foreign_behind.are_taken([sent])
    hold(f"queue:{QUEUE}")

    assert eventually(lambda: PauseQueueEntry.objects.waiting().exists()), "it has decided once, and has a connection"
    with proxy.silent():
        release(f"queue:{QUEUE}")
        time.sleep(16)

    assert reconciled(lambda: foreign_behind.notes("add"), 60), foreign_behind.workers.said("one")[-3000:]
    assert foreign_behind.notes("add") == [["add", 1, 2]]
    assert foreign_behind.ended(sent) == ["SUCCESS", 3]


@pytest.mark.slow
@pytest.mark.req("W-22")
def test_a_worker_ends_while_nobody_answers_its_goodbye(foreign_behind: Foreign, proxy: PostgresProxy):
    foreign_behind.worker("one", "-c", "1", FOREIGN_OPTIONS=QUICK)
    assert foreign_behind.ended(foreign_behind.send("add", 1, 2)) == ["SUCCESS", 3]
    process = foreign_behind.workers.processes["one"]

    with proxy.silent():
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(25)
        except subprocess.TimeoutExpired:
            pytest.fail(foreign_behind.workers.said("one")[-3000:])


@pytest.mark.slow
@pytest.mark.req("M-05")
def test_a_hold_that_was_heard_of_and_gone_before_it_was_read_stays_nowhere(foreign: Foreign):
    """What is heard is obeyed before it is read; what is read then is the same as before."""
    foreign.worker("one", "-c", "1")
    assert foreign.ended(foreign.send("add", 0, 0)) == ["SUCCESS", 0]
    main = foreign.workers.processes["one"]

    for number in range(1, 4):
        main.send_signal(signal.SIGSTOP)
        hold()
        release()
        main.send_signal(signal.SIGCONT)
        sent = foreign.send("add", number, 0)

        assert foreign.ended(sent) == ["SUCCESS", number], foreign.workers.said("one")[-3000:]
    assert "was just placed" not in foreign.workers.said("one")


@pytest.mark.slow
@pytest.mark.req("W-23")
def test_what_waits_for_a_thread_is_kept_within_moments_of_a_hold(foreign: Foreign):
    """Celery gives a pool of threads all that it has; a thread would come to it after the task before."""
    foreign.worker("one", "-P", "threads", "-c", "1", "--prefetch-multiplier", "4")
    foreign.send("steady", "long", 12.0)
    assert eventually(lambda: foreign.notes("steady"))
    for number in range(3):
        foreign.send("steady", f"behind-{number}", 0.1)
    assert eventually(lambda: foreign.workers.said("one").count("received") >= 4)

    hold()

    assert eventually(lambda: PauseQueueEntry.objects.waiting().count() == 3, 5), "while the thread is at work"
    assert foreign.notes("steady-end") == []
    release()
    assert reconciled(lambda: len(foreign.notes("steady-end")) == 4, 40)
    assert len(foreign.notes("steady")) == 4, "each once"
