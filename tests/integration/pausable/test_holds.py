"""A pausable task that arrives while held waits, and runs once when it may."""

from __future__ import annotations

import pytest

from pause_manager.models import ControlEvent, PauseQueueEntry, RunningTask
from tests.integration.pausable.project import Foreign, hold, release, waiting
from tests.workers import eventually

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_task_that_arrives_while_held_waits_and_runs_once(foreign: Foreign):
    foreign.worker()
    hold()

    sent = foreign.send("add", 1, 2)

    assert waiting(1)
    entry = PauseQueueEntry.objects.waiting().get()
    assert (entry.ref, entry.task_name, entry.queue) == (f"task:{sent}", "tests.foreign.tasks.add", "foreign")
    assert foreign.desk().ask("state", sent) == ["PENDING", None], "it has neither started nor ended"
    assert foreign.notes() == []

    release()

    assert foreign.ended(sent) == ["SUCCESS", 3]
    assert foreign.notes() == [["add", 1, 2]]
    entry.refresh_from_db()
    assert (entry.outcome, entry.sending, entry.answered_at is not None) == ("sent", 1, True)
    assert eventually(lambda: not RunningTask.objects.exists())
    told = ControlEvent.objects.filter(scope=entry.ref).order_by("id").values_list("action", "actor")
    assert list(told) == [("parked", "system"), ("sent_on", "user:operator")]
