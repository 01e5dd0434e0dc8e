"""A kept message runs once: delivered twice, lost, or its worker killed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import redis
from django.db import connection

from pause_manager.messaging import broker, outgoing
from pause_manager.messaging.headers import ENTRY
from pause_manager.models import PauseQueueEntry, RunningTask
from pause_manager.pausable import redispatch
from tests.support.foreign_project import QUEUE, Foreign, hold, reconciled, release, waiting
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]


def send_again(entry: PauseQueueEntry, generation: int) -> None:
    """The broker delivers a message a second time."""
    again = outgoing.copy_message(entry.message or {}, bytes(entry.body or b""), {ENTRY: f"{entry.pk}.{generation}"})
    assert broker.publish([again]) == [broker.TAKEN]


def end_other_connections() -> None:
    """As a restart of the server does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def is_idle() -> bool:
    return broker.queue_depth(QUEUE) == 0 and not RunningTask.objects.exists()


def lists(store: redis.Redis) -> list[Any]:
    """The broker's lists of the queue, one for each priority."""
    return [key for key in store.keys(f"{QUEUE}*") if store.type(key) == b"list"]


@pytest.mark.slow
def test_a_message_delivered_twice_runs_once(foreign: Foreign):
    sent = foreign.send("add", 1, 2, countdown=15)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        (key,) = lists(store)
        original = json.loads(store.lindex(key, 0))
    foreign.worker("one", "-P", "threads", "-c", "4")
    foreign.are_taken([sent])
    hold()
    assert waiting(1)
    entry = PauseQueueEntry.objects.get()
    release()
    assert foreign.ended(sent) == ["SUCCESS", 3]

    send_again(entry, 1)
    original["properties"]["delivery_info"]["redelivered"] = True
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        store.rpush(key, json.dumps(original))  # as the transport does when nobody has acknowledged it
    assert eventually(lambda: foreign.workers.said("one").count("was delivered again") == 2), "both ended at once"

    # Sent on by hand before anybody starts on it, four times over.
    (again,) = foreign.keep(("add", 5, 5))
    second = PauseQueueEntry.objects.waiting().get()
    for _ in range(4):
        send_again(second, 1)
    release()
    assert foreign.ended(again) == ["SUCCESS", 10]
    assert eventually(is_idle)
    time.sleep(0.5)
    assert foreign.notes("add") == [["add", 1, 2], ["add", 5, 5]]


def test_a_lost_message_is_sent_again_and_a_late_one_ends(foreign: Foreign, settings):
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "answer_grace_seconds": 1.0}
    foreign.worker("one")
    (sent,) = foreign.keep(("add", 1, 2))
    foreign.workers.stop("one")
    release()
    entry = PauseQueueEntry.objects.unconfirmed().get()
    assert broker.queue_depth(QUEUE) == 1
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        store.flushdb()

    assert reconciled(lambda: PauseQueueEntry.objects.filter(generation=2).exists())
    assert broker.queue_depth(QUEUE) == 1
    send_again(entry, 1)
    foreign.worker("two")

    assert foreign.ended(sent) == ["SUCCESS", 3]
    assert eventually(is_idle)
    assert foreign.notes() == [["add", 1, 2]]
    redispatch.reconcile()
    assert not PauseQueueEntry.objects.unconfirmed().exists()


@pytest.mark.slow
def test_a_task_whose_worker_is_killed_runs_again_if_it_acknowledges_late(foreign: Foreign):
    late = {"FOREIGN_ACKS_LATE": "1"}
    foreign.worker("one", "-c", "2", **late)
    sent, failing = foreign.keep(("steady", "sent", 12), ("steady", "failing", 60))
    release()
    assert eventually(lambda: len(foreign.notes("steady")) == 2)

    # A child of the pool alone: Celery itself says that its task failed.
    os.kill(foreign.process_of(failing), signal.SIGKILL)
    assert foreign.ended(failing)[0] == "FAILURE"
    assert eventually(lambda: not RunningTask.objects.filter(task_id=failing).exists())

    # The whole worker: nobody could say anything.
    children = psutil.Process(foreign.workers.processes["one"].pid).children(recursive=True)
    foreign.workers.kill("one")
    for child in children:
        child.kill()
    foreign.worker("two", "-c", "2", **late)

    assert reconciled(lambda: foreign.notes("steady-end"))
    assert foreign.ended(sent) == ["SUCCESS", "sent"]
    assert eventually(is_idle)
    names = sorted(note[1] for note in foreign.notes("steady"))
    assert names == ["failing", "sent", "sent"], "what failed is not run again, and what was cut off is, once"


@pytest.mark.slow
def test_what_is_broken_off_and_given_back_runs_again(foreign: Foreign):
    foreign.worker("one", "-c", "2", FOREIGN_ACKS_LATE="1", FOREIGN_REJECTS_LOST="1")
    rejecting, ending = foreign.keep(("rejects",), ("steady", "ending", 8))
    release()
    assert eventually(lambda: foreign.notes("steady"))
    os.kill(foreign.process_of(ending), signal.SIGTERM)

    assert foreign.ended(rejecting) == ["SUCCESS", "taken"]
    assert foreign.ended(ending, 60) == ["SUCCESS", "ending"]
    assert eventually(is_idle)
    assert len(foreign.notes("rejects")) == len(foreign.notes("steady")) == 2
    assert len(foreign.notes("steady-end")) == 1
    redispatch.reconcile()
    assert not PauseQueueEntry.objects.waiting().exists()


@pytest.mark.slow
def test_without_a_result_backend_and_without_the_database(foreign: Foreign, process_env: dict[str, str]):
    """Longer than its permit lasts a worker without a database starts nothing and gives back what it has in hand."""
    at = connection.settings_dict
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        door = Path(directory) / "door"
        door.symlink_to(at["HOST"])
        url = process_env["DATABASE_URL"].replace(quote(at["HOST"], safe=""), quote(str(door), safe=""))
        options = json.dumps({"permit_seconds": 4.0})
        env = {"DATABASE_URL": url, "FOREIGN_BACKEND": "disabled://", "FOREIGN_ACKS_LATE": "1"}
        foreign.worker("one", "-P", "threads", "-c", "2", FOREIGN_OPTIONS=options, **env)
        in_hand = foreign.send("add", 1, 2, countdown=6)
        foreign.are_taken([in_hand])
        door.unlink()
        end_other_connections()
        foreign.send("add", 3, 3)
        assert eventually(lambda: foreign.notes() == [["add", 3, 3]]), "a short outage is noticed by nobody"

        assert eventually(lambda: "nothing starts until they can" in foreign.workers.said("one"))
        foreign.send("add", 4, 4)
        assert eventually(lambda: broker.queue_depth(QUEUE) == 2), "one was given back, and the other not taken"
        time.sleep(5)
        assert foreign.notes() == [["add", 3, 3]]

        door.symlink_to(at["HOST"])

        assert eventually(lambda: sorted(foreign.notes()) == [["add", 1, 2], ["add", 3, 3], ["add", 4, 4]])
        foreign.keep(("add", 5, 5))
        release()
        assert eventually(lambda: ["add", 5, 5] in foreign.notes())
        assert eventually(is_idle)


@pytest.mark.slow
def test_a_task_that_acknowledges_early_is_lost_with_its_worker_as_ever(foreign: Foreign):
    foreign.worker("one", "-P", "solo")
    foreign.keep(("steady", "lost", 60))
    release()
    assert eventually(lambda: foreign.notes("steady"))

    foreign.workers.kill("one")

    assert reconciled(lambda: not RunningTask.objects.exists())
    redispatch.reconcile()
    assert broker.queue_depth(QUEUE) == 0
    assert not PauseQueueEntry.objects.waiting().exists()
