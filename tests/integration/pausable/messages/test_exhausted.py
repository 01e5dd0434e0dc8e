"""Tasks with ``on_exhausted = "hold"``: their retries are used up, and a person decides. With real workers."""

from __future__ import annotations

import os
from typing import Any

import pytest
import redis
from celery import Task
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from pause_manager.models import ControlEvent, PauseQueueEntry, RunningTask
from pause_manager.pausable import PausableTask
from pause_manager.pause_queue import answering, explanation
from pause_manager.pause_queue.stuck import InvalidEntryCommand, Selection
from tests.support.foreign_project import OPERATOR, Foreign, hold, reconciled, release, waiting
from tests.support.shell import Shell
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


@pytest.fixture
def broken():
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        store.set("is-broken", "1")
        yield store
        store.delete("is-broken")


def answer(entry: PauseQueueEntry, given: str, reason: str = "mended") -> list[int]:
    return answering.answer(Selection((entry.pk,)), given, actor=OPERATOR, reason=reason)


def asking(foreign: Foreign, name: str) -> tuple[str, PauseQueueEntry]:
    """The id and the entry of a task that has failed and asks."""
    sent = foreign.send("may_fail", name)
    ref = f"task:{sent}"
    found = PauseQueueEntry.objects.filter(ref=ref, waits_for="answer", finished_at=None)
    assert eventually(found.exists, 60), foreign.workers.said("one")[-3000:]
    return sent, found.get()


def tries(foreign: Foreign, name: str) -> list[int]:
    return [note[2] for note in foreign.notes("tried") if note[1] == name]


@pytest.mark.slow
def test_it_asks_when_no_retry_is_left_and_survives_the_death_of_its_worker(foreign, broken):
    foreign.worker("one")
    sent, entry = asking(foreign, "a")

    assert tries(foreign, "a") == [0, 1, 2]
    assert foreign.desk().ask("state", sent)[0] not in ("FAILURE", "SUCCESS")
    assert (entry.failure or {})["error"] == "ValueError: a is broken"
    [reason] = explanation.explain(entry).reasons
    assert (reason.code, reason.keeps) == ("needs_input", True)
    assert "It has failed 3 times: ValueError: a is broken" in reason.sentence
    assert explanation.position(entry) is None

    foreign.workers.kill("one")
    foreign.worker("one")
    reconciled(lambda: True)
    assert waiting(1)
    assert tries(foreign, "a") == [0, 1, 2], "nobody runs it before the answer"
    broken.delete("is-broken")

    assert answer(entry, "retry") == [entry.pk]

    assert foreign.ended(sent) == ["SUCCESS", "a"]
    assert tries(foreign, "a") == [0, 1, 2, 0], "all its retries are left again"
    assert answer(entry, "retry") == [], "it is answered once"
    [event] = ControlEvent.objects.filter(action="answered", scope=entry.ref)
    assert (event.actor, event.details["answer"], event.reason) == ("user:operator", "retry", "mended")
    assert eventually(lambda: not RunningTask.objects.exists())


def test_it_fails_with_its_own_error_when_that_is_the_answer_and_is_skipped_by_another(foreign, broken, process_env):
    foreign.worker("one")
    failing, first = asking(foreign, "a")
    skipped, second = asking(foreign, "b")

    command = ("pause_queue", "answer", str(first.pk), "--answer", "fail", "--reason", "it is hopeless")
    ended, again = Shell(process_env)(*command), Shell(process_env)(*command)
    api = APIClient()
    api.force_authenticate(User.objects.create_superuser("root"))
    url = f"/api/v1/pause-queue/{second.pk}/answer/"
    wrong = api.post(url, {"answer": "perhaps"}, format="json")
    skips = api.post(url, {"answer": "skip", "reason": "not needed"}, format="json")

    assert (ended.code, ended.out) == (0, "Answered: 1.\n"), ended.err
    assert again.code == 3, "it is answered once"
    assert (wrong.status_code, "perhaps" in str(wrong.json())) == (400, True), wrong.json()
    assert (skips.status_code, skips.json()["error"]) == (200, "ValueError: b is broken")

    state, value = foreign.ended(failing)
    assert (state, "a is broken" in str(value)) == ("FAILURE", True)
    assert tries(foreign, "a") == [0, 1, 2], "it has not run again"
    second.refresh_from_db()
    assert (second.outcome, second.answer) == ("dropped", "skip")
    assert foreign.desk().ask("state", skipped)[0] not in ("FAILURE", "SUCCESS")
    assert eventually(lambda: not PauseQueueEntry.objects.waiting().exists())


@pytest.mark.slow
def test_one_that_fails_again_asks_again_in_its_place_and_a_hold_keeps_it(foreign, broken):
    foreign.worker("one")
    sent, entry = asking(foreign, "a")

    assert answer(entry, "retry") == [entry.pk]

    assert eventually(lambda: tries(foreign, "a") == [0, 1, 2, 0, 1, 2], 60)
    assert eventually(lambda: PauseQueueEntry.objects.filter(waits_for="answer", finished_at=None).exists(), 60)
    again = PauseQueueEntry.objects.get(waits_for="answer", finished_at=None)
    assert (again.ref, again.answer) == (f"task:{sent}", "")
    broken.delete("is-broken")
    hold("queue:foreign")
    assert answer(again, "retry") == [again.pk]
    reconciled(lambda: True)
    assert waiting(1)
    assert tries(foreign, "a") == [0, 1, 2, 0, 1, 2], "the hold keeps it"
    release("queue:foreign")
    assert foreign.ended(sent) == ["SUCCESS", "a"]


def test_a_task_that_calls_it_as_a_function_fails_by_itself(foreign, broken):
    foreign.worker("one")

    sent = foreign.send("calls_may_fail", "a")

    assert foreign.ended(sent)[0] == "FAILURE"
    assert not PauseQueueEntry.objects.exists()


def test_what_is_no_answer_and_no_mode_is_refused_by_name():
    with pytest.raises(InvalidEntryCommand, match="expected retry, skip, fail, got: perhaps"):
        answering.answer(Selection((1,)), "perhaps", actor=OPERATOR, reason="")

    wrong: Any = {"on_exhausted": "ask"}
    with pytest.raises(ValueError, match="expected on_exhausted of fail or hold, got: 'ask'"):
        type("Asks", (PausableTask,), wrong)
    assert issubclass(PausableTask, Task)
