"""Failed tasks: what is kept of them, and that one runs again once, under the holds. With real workers."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest

from pause_manager.models import ControlEvent, FailedTask, PauseQueueEntry
from pause_manager.pausable import failed_tasks
from pause_manager.pausable.failed_tasks import Arguments, RetryRefused
from pause_manager.worker.failure_log import FailureLog
from tests.support.foreign_project import OPERATOR, Foreign, hold, release, waiting
from tests.support.race import Racer
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


def failed(foreign: Foreign, task_id: str, count: int = 1) -> FailedTask:
    """The last row of the task, once there are so many."""
    rows = FailedTask.objects.filter(task_id=task_id)
    assert eventually(lambda: rows.count() == count, 30), foreign.workers.said("one")[-3000:]
    return rows.order_by("id")[count - 1]


def row(**values: Any) -> FailedTask:
    told = {"task_id": "1", "task_name": "shop.sell", "queue": "shop", "worker": "w", "turn": uuid4()}
    return FailedTask(**{**told, "error_class": "ValueError", "error": "broken", **values})


def test_what_failed_is_kept_and_runs_again_under_its_id(foreign: Foreign) -> None:
    foreign.worker("one")
    sent = foreign.send("fail", "no stock")

    kept = failed(foreign, sent)

    assert (kept.task_name, kept.queue, kept.tries) == ("tests.foreign.tasks.fail", "foreign", 1)
    assert (kept.error_class, kept.error, kept.args_text) == ("ValueError", "no stock", "['no stock']")
    assert "raise ValueError(why)" in kept.traceback

    failed_tasks.retry(kept.pk, actor=OPERATOR, reason="there is stock")

    again = failed(foreign, sent, 2)
    assert foreign.notes("fail") == [["fail", "no stock"], ["fail", "no stock"]]
    assert again.retried_at is None
    kept.refresh_from_db()
    assert kept.retried_by == "user:operator"
    [event] = ControlEvent.objects.filter(action="task_retried")
    assert (event.scope, event.actor, event.reason) == (f"task:{sent}", "user:operator", "there is stock")
    assert "no stock" not in str(event.details), "arguments are nothing for the audit trail"
    entry = PauseQueueEntry.objects.get()
    assert (entry.outcome, entry.confirmed_at is not None) == ("sent", True)


def test_with_other_arguments_the_rest_of_its_chain_follows(foreign: Foreign) -> None:
    foreign.worker("one")
    first, last = foreign.desk().ask("linked", "a", 1, 10)
    kept = failed(foreign, first)
    arguments = failed_tasks.arguments_of(kept)
    assert arguments == Arguments(["a", 1], {})

    failed_tasks.retry(kept.pk, actor=OPERATOR, changed=Arguments([5], {"y": 1}))

    # Celery had noted both as failed: what runs now takes their place.
    assert eventually(lambda: foreign.desk().ask("state", last) == ["SUCCESS", 16], 30)
    assert foreign.desk().ask("state", first) == ["SUCCESS", 6]
    assert FailedTask.objects.count() == 1


@pytest.mark.slow
def test_a_retry_waits_for_the_hold_on_its_queue(foreign: Foreign) -> None:
    foreign.worker("one")
    kept = failed(foreign, foreign.send("fail"))
    hold("queue:foreign")

    failed_tasks.retry(kept.pk, actor=OPERATOR)

    assert waiting(1)
    assert foreign.notes("fail") == [["fail", "broken"]]
    release("queue:foreign")
    assert failed(foreign, kept.task_id, 2)


@pytest.mark.slow
def test_what_celery_tries_again_and_what_succeeds_is_no_failure(foreign: Foreign) -> None:
    foreign.worker("one")
    flaky, gives_up, fine = foreign.send("flaky", 2), foreign.send("gives_up"), foreign.send("add", 1, 1)

    kept = failed(foreign, gives_up)

    assert foreign.ended(flaky) == ["SUCCESS", 2]
    assert foreign.ended(fine) == ["SUCCESS", 2]
    assert (kept.error_class, kept.tries) == ("KeyError", 2)
    assert FailedTask.objects.count() == 1


def test_a_large_message_is_named_and_cannot_be_retried(foreign: Foreign) -> None:
    foreign.worker("one")
    kept = failed(foreign, foreign.send("fail", "x" * failed_tasks.LARGEST_BODY))

    with pytest.raises(RetryRefused, match="too large to be kept"):
        failed_tasks.retry(kept.pk, actor=OPERATOR)

    kept.refresh_from_db()
    assert (kept.body, kept.retried_at) == (None, None)
    assert not PauseQueueEntry.objects.exists()


@pytest.mark.slow
def test_two_who_click_at_once_have_it_run_once(foreign: Foreign) -> None:
    foreign.worker("one")
    kept = failed(foreign, foreign.send("fail"))
    barrier = threading.Barrier(2)
    refused: list[str] = []

    def click() -> None:
        try:
            failed_tasks.retry(kept.pk, actor=OPERATOR)
        except RetryRefused as refusal:
            refused.append(str(refusal))

    racers = [Racer(click, barrier) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert refused == [f"Cannot retry failed task {kept.pk}: user:operator has retried it already."]
    assert failed(foreign, kept.task_id, 2)
    assert ControlEvent.objects.filter(action="task_retried").count() == 1
    assert len(foreign.notes("fail")) == 2


def test_no_more_than_the_newest_are_kept_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_tasks, "MOST_KEPT", 3)
    same = row(task_id="5")

    failed_tasks.write([row(task_id=str(number)) for number in range(5)])
    failed_tasks.write([same])
    failed_tasks.write([row(task_id="5", turn=same.turn)])

    assert list(FailedTask.objects.order_by("id").values_list("task_id", flat=True)) == ["3", "4", "5"]


def test_what_failed_long_ago_is_forgotten() -> None:
    failed_tasks.write([row(task_id="old"), row(task_id="new")])
    FailedTask.objects.filter(task_id="old").update(failed_at="2001-01-01T00:00:00Z")

    assert failed_tasks.forget() == 1

    assert [one.task_id for one in FailedTask.objects.all()] == ["new"]


def test_a_failure_that_the_database_refuses_keeps_no_other_waiting() -> None:
    log = FailureLog()
    log._rows.extend([row(task_id="bad", policy="p" * 101), row(task_id="good")])

    log.flush()
    log._rows.append(row(task_id="next"))
    log.flush()

    assert list(FailedTask.objects.order_by("id").values_list("task_id", flat=True)) == ["good", "next"]
