"""Behind a real PgBouncer in transaction mode: no statement relies on the connection that the one before it had."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, connections

from automation.models import AutomationRun, Lifecycle
from automation.runs import lanes
from pause_manager import database, fleet, holds, manager
from tests.support.factories import OPERATOR, make_run
from tests.support.pgbouncer import pgbouncer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="needs pgbouncer"),
]


@pytest.fixture
def pooler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of its socket."""
    at = connection.settings_dict
    server = {"name": at["NAME"], "host": at["HOST"], "port": at["PORT"] or 5432, "user": at["USER"]}
    with pgbouncer(Path(tmp_path_factory.mktemp("b")), **server) as root:
        yield root


@pytest.fixture
def through(pooler: Path) -> Iterator[None]:
    """This thread's connection goes through the pooler, and others keep it from getting the same server each time."""
    direct = dict(connection.settings_dict)
    pooled = {**direct, "HOST": str(pooler), "PORT": "6543"}
    is_over = threading.Event()

    def bustle() -> None:
        own = connections.create_connection("default")
        own.settings_dict = pooled
        while not is_over.is_set():
            with own.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.002)")
        own.close()

    others = [threading.Thread(target=bustle) for _ in range(4)]
    connection.close()
    connection.settings_dict = pooled
    for other in others:
        other.start()
    yield
    is_over.set()
    for other in others:
        other.join()
    database.close()
    connection.settings_dict = direct


def test_runs_that_wait_are_started_however_many_they_are(through: None):
    holds.place(["fleet"], actor=OPERATOR, reason="a storm")
    for _ in range(9):
        make_run(items=1)
    AutomationRun.objects.update(start_requested_at=AutomationRun.objects.earliest("created_at").created_at)
    holds.release(["fleet"], actor=OPERATOR, reason="it is over")

    lanes.fill_all()

    assert AutomationRun.objects.filter(lifecycle=Lifecycle.RUNNING).count() == 9


def test_the_switch_and_the_poll_work_through_it(through: None):
    for _ in range(5):
        fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR, confirmation="pause")
        assert manager.poll().skipped == "the fleet is held"
        fleet.resume(reason="done", actor=OPERATOR, confirmation="resume")
        assert manager.poll().skipped == ""
