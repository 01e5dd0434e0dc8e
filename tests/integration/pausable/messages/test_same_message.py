"""Which message is the same as one that was kept: names are told apart from ids, which people use again and again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery, signals
from django.db.models import F

from pause_manager.models import PauseQueueEntry
from pause_manager.pausable import parked_messages
from tests.support.deliveries import delivery
from tests.support.foreign_project import hold, release

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def task() -> Iterator[Any]:
    app = Celery("reports", broker="memory://", set_as_current=False)

    @app.task(name="nightly", shared=False)
    def nightly(*args: Any, **kwargs: Any) -> None: ...

    yield nightly
    app.close()


def by_amqp(task: Any, name: str = "", *, again: bool = False, queue: str = "foreign") -> Any:
    """A delivery of the task's one id, whose tag says nothing; ``name`` is that of its message."""
    properties: dict[str, Any] = {"delivery_tag": 1, **({"message_id": name} if name else {})}
    info = {"redelivered": again, "exchange": "reports", "routing_key": queue}
    return delivery(task, queue=queue, id="nightly-report", properties=properties, delivery_info=info)


def keep(*deliveries: Any) -> None:
    hold()
    for one in deliveries:
        assert parked_messages.admit(one) is None
    release()


def two_days_later() -> None:
    PauseQueueEntry.objects.update(paused_at=F("paused_at") - timedelta(days=2))


@pytest.mark.parametrize("names", [("monday", "wednesday"), ("", "")], ids=["named by its sender", "without a name"])
def test_an_id_that_is_used_again_days_later_runs_though_its_message_is_redelivered(task: Any, names: tuple[str, str]):
    monday, wednesday = names
    keep(by_amqp(task, monday))
    two_days_later()

    assert parked_messages.admit(by_amqp(task, wednesday, again=True)) is not None


def test_a_message_that_was_kept_never_runs_besides_however_late_it_comes_again(task: Any):
    keep(by_amqp(task, "monday"))
    two_days_later()

    assert parked_messages.admit(by_amqp(task, "monday", again=True)) is None

    assert PauseQueueEntry.objects.count() == 1


def test_a_message_without_a_name_is_known_for_a_while(task: Any):
    keep(by_amqp(task))

    assert parked_messages.admit(by_amqp(task, again=True)) is None
    assert parked_messages.admit(by_amqp(task)) is not None, (
        "it is delivered for the first time: another one of that id"
    )


def test_an_id_that_is_used_twice_within_minutes_runs_twice_if_its_messages_have_names(task: Any):
    keep(by_amqp(task, "one"))

    assert parked_messages.admit(by_amqp(task, "two", again=True)) is not None


def test_the_copies_that_a_topic_exchange_makes_are_kept_each(task: Any):
    keep(by_amqp(task, "one", queue="videos"), by_amqp(task, "one", queue="archive"))

    assert sorted(PauseQueueEntry.objects.values_list("queue", flat=True)) == ["archive", "videos"]


def test_every_message_gets_a_name_and_a_name_of_its_senders_stays(task: Any):
    sent: list[str] = []

    def look(properties: dict[str, Any], **_: Any) -> None:
        sent.append(properties["message_id"])

    signals.before_task_publish.connect(look)
    try:
        for options in ({}, {}, {"message_id": "mine"}):
            task.apply_async(**options)
    finally:
        signals.before_task_publish.disconnect(look)

    assert len(set(sent)) == 3
    assert sent[2] == "mine"
