"""A deploy renames a task while its messages wait: none is lost, people see it before the resume, a verb mends it."""

from __future__ import annotations

import pytest

from pause_manager import fleet
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue import stuck
from tests.support.foreign_project import OPERATOR, Foreign, hold, reconciled, release
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

OLD, NEW = "tests.foreign.tasks.bill", "tests.foreign.tasks.bill_card"


def rename() -> None:
    assert stuck.rename(OLD, NEW, actor=OPERATOR, reason="renamed in 2.0")


@pytest.mark.slow
def test_a_task_that_a_deploy_has_renamed_waits_until_a_person_says_its_new_name(foreign: Foreign):
    foreign.worker("one")
    kept = foreign.keep(("bill", 1), ("bill", 2))
    foreign.workers.stop("one")
    in_the_broker = foreign.send("bill", 3)

    foreign.worker("one", FOREIGN_RELEASE="2")
    assert eventually(lambda: f"2 parked messages of the task {OLD}" in str(fleet.snapshot()["warnings"]))
    release()

    assert eventually(lambda: PauseQueueEntry.objects.waiting().filter(problem="unknown_task").count() == 3)
    told = [foreign.desk().ask("state", one)[0] for one in [*kept, in_the_broker]]
    assert told == ["PENDING"] * 3, "Celery would have failed them"
    assert foreign.notes() == []

    rename()

    assert reconciled(lambda: sorted(note[1] for note in foreign.notes("bill")) == [1, 2, 3])
    assert [foreign.ended(one)[1] for one in [*kept, in_the_broker]] == [1, 2, 3]
    assert not PauseQueueEntry.objects.waiting().exists()


@pytest.mark.slow
def test_a_worker_that_knows_the_task_takes_up_what_another_did_not(foreign: Foreign):
    foreign.worker("new", FOREIGN_RELEASE="2")
    sent = foreign.send("bill", 1)
    assert eventually(lambda: PauseQueueEntry.objects.waiting().filter(problem="unknown_task").exists())
    hold()
    foreign.workers.stop("new")
    foreign.worker("old")

    release()

    assert reconciled(lambda: foreign.ended(sent, 1) == ["SUCCESS", 1])
    assert foreign.notes() == [["bill", 1]]
