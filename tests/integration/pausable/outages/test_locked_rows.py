"""A decision that waits for somebody's lock in PostgreSQL is put off, and no other with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from celery import current_app
from django.db import connection

from pause_manager.database.thread import database_thread
from pause_manager.models import PauseQueueEntry
from pause_manager.pausable import PausableTask, parked_messages
from pause_manager.worker.decisions import Decisions
from tests.support.deliveries import delivery
from tests.support.foreign_project import hold, release
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture
def task() -> Iterator[PausableTask]:
    declare = current_app.task(base=PausableTask, name="foreign.locked", serializer="json", lazy=False)
    yield declare(_nothing)
    current_app.tasks.unregister("foreign.locked")


def _nothing(*args: Any, **kwargs: Any) -> None:
    """What the task does."""


@pytest.fixture
def decisions() -> Iterator[Decisions]:
    database_thread.start()
    yield Decisions()
    database_thread.stop(20.0)


def locking(entry: int) -> psycopg.Connection[Any]:
    """Another session that has locked this entry's row."""
    other = psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor})
    other.execute(f"SELECT FROM {PauseQueueEntry._meta.db_table} WHERE id = %s FOR UPDATE", [entry])
    return other


@pytest.mark.slow
def test_a_locked_entry_holds_only_its_own_message_up(task: PausableTask, decisions: Decisions):
    hold()
    for _ in range(3):
        assert parked_messages.admit(delivery(task)) is None
    release()
    locked, also_locked, free = PauseQueueEntry.objects.order_by("id")
    said: list[int] = []

    def settle(entry: PauseQueueEntry) -> None:
        assert parked_messages.admit(delivery(task, **{"pause-entry": f"{entry.pk}.{entry.generation}"})) is not None
        said.append(entry.pk)

    with locking(locked.pk) as one, locking(also_locked.pk) as other:
        for entry in (locked, also_locked, free):
            decisions.do(partial(settle, entry))

        # Nobody calls for another round: both locks run into their limit of 5 s in this one.
        assert eventually(lambda: said == [free.pk], 20)
        assert not database_thread.is_away, "nothing is the matter with the database"
        assert not decisions.is_empty
        one.rollback()
        other.rollback()

    decisions.retry()

    assert eventually(lambda: sorted(said) == [locked.pk, also_locked.pk, free.pk], 20)
