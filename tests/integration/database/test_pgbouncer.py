"""Behind a real PgBouncer in transaction mode: no statement relies on the connection that the one before it had."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, connections

from automation import leases
from automation.models import AutomationRun, Lifecycle, WorkSlice
from automation.runs import lanes
from pause_manager import database, fleet, holds, manager
from pause_manager.database import prepared
from tests.support.factories import OPERATOR, make_run, stage_of, worker
from tests.support.pgbouncer import pgbouncer
from tests.support.race import race

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


def test_claims_are_right_where_each_transaction_has_another_server(pooler: Path, caplog):
    """Sessions that are not ours do not keep what we prepared: that is told once, and no claim is lost or doubled."""
    run = make_run("scripted", items=300)
    stage = stage_of(run).pk
    direct = dict(connection.settings_dict)
    taken: list[int] = []

    def loop() -> None:
        connection.close()
        connection.settings_dict = {**direct, "HOST": str(pooler), "PORT": "6543"}
        while (work := leases.claim(stage, worker(threading.current_thread().name))) is not None:
            taken.append(work.slice_id)

    race(loop, loop, loop, loop, loop)

    told = [record for record in caplog.records if "not prepared any more" in record.getMessage()]
    prepared._stopped.clear()
    assert sorted(taken) == sorted(WorkSlice.objects.filter(stage_run=stage).values_list("pk", flat=True))
    assert len(told) == 1, "the pooler kept each client's server: the test shows nothing"
