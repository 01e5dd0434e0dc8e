"""What is an outage and what is a fault, told by SQLSTATE; and threads that find the database again by themselves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
from django.db import Error, InterfaceError, OperationalError, connection, transaction

from backend.embedded import Layout, Postgres
from pause_manager.database import session
from pause_manager.database.thread import DatabaseThread
from pause_manager.models import Hold
from tests.support.workers import eventually

pytestmark = pytest.mark.django_db(transaction=True)

PASSES = {
    "08000": "connection exception",
    "08006": "connection failure",
    "08P01": "what PgBouncer says when it finds no server",
    "25006": "read-only",
    "25P03": "idle in a transaction for too long",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "53100": "disk full",
    "53300": "too many connections",
    "55006": "object in use",
    "55P03": "lock not available",
    "57014": "statement_timeout, as during a migration",
    "57P01": "admin shutdown",
    "57P02": "crash shutdown",
    "57P03": "cannot connect now",
    "57P05": "idle session time-out",
    "58030": "I/O error",
}
STAYS = {
    "22001": "string too long",
    "22021": "not in the encoding",
    "22P05": "untranslatable character",
    "23505": "unique violation",
    "23514": "check violation",
    "25P02": "in a failed transaction",
    "40002": "a constraint at commit",
    "42501": "no permission",
    "42703": "no such column, as before a migration",
    "42P01": "no such table",
    "0A000": "not supported",
    "54000": "a limit of the program",
    "55P02": "cannot change a parameter now",
    "P0001": "raised by a trigger",
    "XX000": "internal error",
}


def raised(act: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        act()
    return caught.value


def execute(statement: str, values: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def end_all_other_connections() -> None:
    execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize("state", [*PASSES, *STAYS])
def test_the_server_says_by_sqlstate_whether_to_wait(state: str):
    error = raised(lambda: execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"))

    assert session.sqlstate(error) == state
    assert session.is_away(error) is (state in PASSES), (PASSES | STAYS)[state]
    assert session.is_away(error.__cause__ or error) is (state in PASSES), "the driver's own error as well"


def test_a_connection_that_was_ended_is_away_in_every_word_that_tells_of_it():
    pid = []

    def end_me() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid.append(cursor.fetchone()[0])
            with psycopg.connect(**_of_driver()) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", pid)
            cursor.execute("SELECT 1")

    ended = raised(end_me)
    still = raised(lambda: execute("SELECT 1"))
    connection.close()

    assert [session.is_away(ended), session.is_away(still)] == [True, True]
    assert isinstance(still, OperationalError)
    execute("SELECT 1")


def _of_driver() -> dict[str, Any]:
    at = connection.settings_dict
    return {
        "host": at["HOST"],
        "port": at["PORT"] or None,
        "user": at["USER"],
        "password": at["PASSWORD"] or None,
        "dbname": at["NAME"],
    }


def test_a_transaction_that_lost_its_connection_is_away_in_django_s_words_too():
    def lose_it_and_go_on() -> None:
        with transaction.atomic():
            try:
                with transaction.atomic():
                    connection.connection.close()
                    execute("SELECT 1")
            except Error:
                execute("SELECT 1")

    error = raised(lose_it_and_go_on)
    connection.close()

    assert session.is_away(error), repr(error)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("connection failed: no such file"),
        InterfaceError("connection already closed"),
        psycopg.OperationalError("the connection is closed"),
        psycopg.errors.ConnectionTimeout("connection timeout expired"),
    ],
)
def test_what_the_driver_finds_out_by_itself_is_away(error: Exception):
    assert session.is_away(error)


def test_a_server_that_is_not_there_is_away(monkeypatch: pytest.MonkeyPatch):
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")

    error = raised(lambda: execute("SELECT 1"))

    assert session.is_away(error)
    assert session.told(error).startswith("away (")


def test_a_pool_without_a_free_connection_is_away():
    with psycopg_pool.ConnectionPool(kwargs=_of_driver(), min_size=1, max_size=1, open=True) as full, full.connection():
        error = raised(lambda: full.getconn(timeout=0.1))

    with pytest.raises(OperationalError) as caught, connection.wrap_database_errors:
        raise error
    assert session.is_away(error)
    assert session.is_away(caught.value)


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_what_the_driver_refuses_to_send_will_never_be_taken(text: str):
    error = raised(lambda: execute("SELECT %s::text", [text]))

    assert not session.is_away(error)


def test_what_is_no_error_of_a_database_is_never_away():
    assert not session.is_away(TimeoutError("the task took too long"))
    assert not session.is_away(ConnectionError("the broker is gone"))


def test_a_table_that_a_migration_locks_is_waited_for():
    with psycopg.connect(**_of_driver()) as migration:
        migration.execute("LOCK TABLE pause_manager_hold")
        for limit in ("lock_timeout", "statement_timeout"):
            execute(f"SET {limit} = '100ms'")
            assert session.is_away(raised(lambda: Hold.objects.exists())), limit
            execute(f"RESET {limit}")


def test_a_read_only_server_is_away_and_called_by_its_name():
    execute("SET default_transaction_read_only = on")
    try:
        error = raised(lambda: Hold.objects.update(reason="changed"))
    finally:
        execute("RESET default_transaction_read_only")

    assert session.is_away(error)
    assert session.is_read_only(error)
    assert session.told(error) == "read-only: it takes no changes, as after a failover"


def test_an_outage_is_told_once_however_many_meet_it(caplog: pytest.LogCaptureFixture):
    session._outage._met_at = float("-inf")
    with caplog.at_level(logging.WARNING, "pause_manager.database.session"):
        for number in range(98):
            with session.waited_for(f"duty {number}"):
                raise OperationalError("server closed the connection")

    assert len(caplog.records) == 1
    assert "The database is away (server closed the connection): duty 0 waits" in caplog.text
    with pytest.raises(ValueError, match="mine"), session.waited_for("a duty"):
        raise ValueError("mine")


@pytest.fixture
def thread() -> Iterator[DatabaseThread]:
    one = DatabaseThread()
    one.start()
    yield one
    one.stop()
    assert not one.is_running


def done(thread: DatabaseThread, name: str = "look", job: Callable[[], object] | None = None) -> bool:
    """Whether ``job``, or a look at the database, was done by the thread within two seconds."""
    event = threading.Event()

    def do() -> None:
        (job or (lambda: execute("SELECT 1")))()
        event.set()

    thread.soon(name, do)
    return event.wait(2)


def test_the_thread_finds_the_database_again_at_the_next_job(thread: DatabaseThread):
    assert done(thread)

    end_all_other_connections()

    assert [done(thread), done(thread)] == [False, True]
    assert not thread.is_away


def test_a_connection_that_was_ended_while_it_was_idle_costs_no_job(
    thread: DatabaseThread, monkeypatch: pytest.MonkeyPatch
):
    """No outage at all: a proxy, a firewall or ``idle_session_timeout`` ended it."""
    monkeypatch.setattr(session, "IDLE_SECONDS", 0.2)
    assert done(thread)
    time.sleep(0.3)
    end_all_other_connections()

    rounds: list[int] = []

    def job() -> None:
        rounds.append(1)
        execute("SELECT 1")
        rounds.append(2)

    thread.soon("look", job)

    assert eventually(lambda: rounds == [1, 2], 5)


def test_a_failure_that_the_job_deals_with_itself_does_not_outlive_it(thread: DatabaseThread):
    assert done(thread)
    end_all_other_connections()

    def job() -> None:
        with pytest.raises(Error):
            execute("SELECT 1")

    assert done(thread, job=job)
    assert done(thread)


def test_jobs_go_in_turn_and_a_newer_one_replaces_the_older_of_its_name(thread: DatabaseThread):
    gate, seen = threading.Event(), []
    thread.soon("busy", lambda: gate.wait(5))
    time.sleep(0.1)
    thread.soon("a", lambda: seen.append("a, old"))
    thread.soon("b", lambda: seen.append("b"))
    thread.soon("a", lambda: seen.append("a, new"))
    thread.soon("hasty", lambda: seen.append("hasty"), first=True)
    gate.set()

    assert eventually(lambda: seen == ["hasty", "a, new", "b"], 5), seen


def test_a_job_that_makes_no_sense_is_told_once_and_keeps_nobody(
    thread: DatabaseThread, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.DEBUG, "pause_manager"):
        for _ in range(3):
            thread.soon("nonsense", lambda: execute("SELECT nothing FROM nowhere"))
            assert done(thread)

    assert caplog.text.count("The job 'nonsense' failed") == 1
    assert not thread.is_away


def test_rounds_come_again_and_once_more_at_the_end():
    thread = DatabaseThread()
    seen: list[str] = []
    thread.every("count", lambda: seen.append("count"), lambda: 0.1)
    thread.start()

    assert eventually(lambda: len(seen) >= 3, 5)
    thread.every("late", lambda: seen.append("late"), lambda: 60.0)
    thread.stop()

    assert seen[-1] == "late"
    assert not thread.is_running


@pytest.mark.slow
def test_a_thread_survives_a_restart_of_the_server(tmp_path_factory: pytest.TempPathFactory):
    layout = Layout(Path(tmp_path_factory.mktemp("p")))
    layout.create()
    server = Postgres(layout, durable=False)
    server.start()
    thread = DatabaseThread()

    def there() -> None:
        with psycopg.connect(layout.database_url) as found:
            at = found.info
            own = {"HOST": at.host, "PORT": at.port, "USER": at.user, "PASSWORD": at.password, "NAME": at.dbname}
        connection.close()
        connection.settings_dict = {**connection.settings_dict, **own}

    thread.start()
    try:
        assert done(thread, job=there)
        assert done(thread)
        server.stop()
        assert not done(thread)
        assert thread.is_away
        server.start()
        assert eventually(lambda: done(thread), 20)
        assert not thread.is_away
    finally:
        thread.stop()
        server.stop()
