"""A signature of any task that was parked by its caller runs once: lost, delivered twice, or its worker killed."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from typing import Any
from uuid import uuid4

import psutil
import pytest
import redis

from pause_manager import manager
from pause_manager.actor import CAPACITY
from pause_manager.capacity.needs import Needs
from pause_manager.messaging import broker
from pause_manager.models import PauseQueueEntry
from pause_manager.pausable import confirmations
from pause_manager.pause_queue import delivery, returning
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.foreign_project import QUEUE, Foreign, reconciled
from tests.support.race import race
from tests.support.workers import REPOSITORY, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

PLAIN = {"FOREIGN_TASK_CLS": "celery:Task"}
ENDS_AFTER_THE_COMMIT = """
import os
import django; django.setup()
from django.db import transaction
from pause_manager import pause_queue
from pause_manager.actor import CAPACITY
from pause_manager.models import PauseQueueEntry
ids = list(PauseQueueEntry.objects.values_list("pk", flat=True))
with transaction.atomic():
    transaction.on_commit(lambda: os._exit(9))
    pause_queue.send_on(ids, actor=CAPACITY, reason="room")
"""


@pytest.fixture(autouse=True)
def short_grace(settings: Any) -> None:
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "answer_grace_seconds": 1.0}


def park(ref: str, task: str, *args: Any) -> PauseQueueEntry:
    manager.pause_work([WithheldDispatch(ref, f"tests.foreign.tasks.{task}", QUEUE, Needs(), args)], reason="full")
    return PauseQueueEntry.objects.get(ref=ref)


def send(*entries: PauseQueueEntry) -> int:
    return delivery.send_on([entry.pk for entry in entries], actor=CAPACITY, reason="room")


def deliver_again(*sent: PauseQueueEntry) -> None:
    """Have the broker hold one more copy of the message that was sent from each of the entries."""
    copies = []
    for entry in sent:
        entry.refresh_from_db()
        entry.generation -= 1
        copies.append(delivery._sending(entry))
    assert broker.publish(copies) == [broker.TAKEN] * len(copies)


def is_over() -> bool:
    return broker.queue_depth(QUEUE) == 0 and not PauseQueueEntry.objects.unconfirmed().exists()


@pytest.mark.req("P-16", "P-20")
@pytest.mark.slow
def test_it_runs_once_whatever_becomes_of_its_message(foreign: Foreign, process_env: dict[str, str]):
    # Its sender ends between the commit and the sending.
    never_sent = park("import:1", "add", 1, 1)
    ended = subprocess.run(
        [sys.executable, "-c", ENDS_AFTER_THE_COMMIT], env=process_env, cwd=REPOSITORY, capture_output=True, timeout=60
    )
    assert ended.returncode == 9, ended.stderr
    never_sent.refresh_from_db()
    assert (never_sent.outcome, broker.queue_depth(QUEUE)) == ("sent", 0)
    # The broker loses what it was given.
    lost = park("import:2", "add", 2, 2)
    assert send(lost) == 1
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        store.flushdb()
    # The broker delivers it three times.
    doubled, retrying = park("import:3", "add", 3, 3), park("import:4", "flaky", 2)
    assert send(doubled, retrying) == 2
    deliver_again(doubled, doubled)

    foreign.worker("one", **PLAIN)

    def all_ran() -> bool:
        send(*PauseQueueEntry.objects.waiting())  # as the poll does when there is room
        return is_over() and len(foreign.notes()) == 6

    assert reconciled(all_ran), foreign.workers.said("one")[-3000:]
    # On a slow machine the message may have been given up meanwhile and sent once more: then all three are refused.
    refused = f"A message of entry {doubled.pk}.1 was delivered again"
    assert eventually(lambda: foreign.workers.said("one").count(refused) >= 2)
    assert sorted(foreign.notes("add")) == [["add", 1, 1], ["add", 2, 2], ["add", 3, 3]]
    assert foreign.notes("flaky") == [["flaky", 0], ["flaky", 1], ["flaky", 2]], "a retry is a message of its own"
    assert foreign.ended(f"parked-{retrying.pk}") == ["SUCCESS", 2]


@pytest.mark.slow
def test_what_its_killed_worker_had_in_hand_is_taken_up_again(foreign: Foreign):
    late = {**PLAIN, "FOREIGN_ACKS_LATE": "1", "FOREIGN_VISIBILITY": "5"}
    foreign.worker("one", **late)
    entry = park("import:1", "steady", "once", 4)
    send(entry)
    assert eventually(lambda: foreign.notes("steady"))
    children = psutil.Process(foreign.workers.processes["one"].pid).children(recursive=True)
    foreign.workers.kill("one")
    for child in children:
        child.kill()

    foreign.worker("two", **late)

    assert reconciled(lambda: foreign.notes("steady-end"), 150), foreign.workers.said("two")[-3000:]
    assert len(foreign.notes("steady")) == 2, "what was cut off runs again, once"
    entry.refresh_from_db()
    assert (entry.generation, entry.outcome) == (1, "sent"), "the broker gave it back: it was not sent again"


def test_what_is_taken_up_is_not_sent_again():
    outcomes = set()
    for start in range(40):
        entry = park(f"import:{start}", "add", start, 0)
        send(entry)
        sent = PauseQueueEntry.objects.unconfirmed().filter(pk=entry.pk)

        took, reopened = race(
            partial(confirmations.confirm_once, (entry.pk, 1), f"tag-{start}", uuid4(), is_redelivered=False),
            partial(returning.reopen, sent, "lost"),
        )

        entry.refresh_from_db()
        outcomes.add((bool(took), reopened, entry.outcome, entry.confirmed_at is None))
    assert outcomes <= {(True, 0, "sent", False), (False, 1, "", True)}


def test_an_entry_knows_the_message_that_it_was_taken_up_by():
    entry = park("import:1", "add", 1, 1)
    send(entry)
    take_up = partial(confirmations.confirm_once, (entry.pk, 1))

    assert take_up("first", uuid4(), is_redelivered=False)
    assert not take_up("second", uuid4(), is_redelivered=False)
    assert take_up("first", uuid4(), is_redelivered=True), "after a crash"
    assert not take_up("", uuid4(), is_redelivered=True), "AMQP names no message; this one was another's"
    assert not confirmations.confirm_once((entry.pk, 2), "first", uuid4(), is_redelivered=False), (
        "nothing was sent so often"
    )


def test_a_message_without_a_name_is_known_by_its_turn():
    entry = park("import:1", "add", 1, 1)
    send(entry)
    take_up = partial(confirmations.confirm_once, (entry.pk, 1), "")
    turn = uuid4()

    assert take_up(turn, is_redelivered=False)
    assert take_up(turn, is_redelivered=False), "the answer to the first COMMIT was lost"
    assert not take_up(uuid4(), is_redelivered=False), "another message"
    assert take_up(uuid4(), is_redelivered=True), "the broker delivers it again, after a crash"
