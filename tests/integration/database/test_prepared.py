"""Prepared statements: claims on a connection that has claimed before are planned no more, and obey as before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import DataError, ProgrammingError, connection

from automation import leases
from automation.models import AutomationRun
from pause_manager import holds
from pause_manager.database import prepared
from pause_manager.database.prepared import SEEN_BEFORE, NotKept, PreparedStatement
from tests.support.factories import OPERATOR, make_run, stage_of, worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_connection() -> Iterator[None]:
    connection.close()
    yield
    connection.close()
    prepared._stopped.clear()


def plans(name: str) -> tuple[int, int]:
    """(how often this connection took the one plan of a statement, how often it planned one)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name LIKE %s",
            [f"slackwater\\_{name}\\_________________"],
        )
        return cursor.fetchone() or (0, 0)


def claim_and_release(run: AutomationRun, times: int) -> None:
    stage = stage_of(run).pk
    for _ in range(times):
        work = leases.claim(stage, worker("a"))
        assert work is not None
        leases.release(work)


def test_claims_are_planned_once_for_a_connection_that_makes_many():
    run = make_run("scripted", items=10)

    claim_and_release(run, SEEN_BEFORE)
    assert plans("open_if_plain") == plans("claim") == (0, 0)

    claim_and_release(run, 20)

    assert plans("open_if_plain") == (20, 0)
    assert plans("claim") == (20, 0)


def test_a_claim_that_is_not_planned_obeys_a_hold_and_takes_each_slice_once():
    run = make_run("scripted", items=100)
    stage = stage_of(run).pk
    claim_and_release(run, SEEN_BEFORE + 10)

    holds.place([run.scope], actor=OPERATOR, reason="test")
    assert leases.claim(stage, worker("a")) is None
    holds.release([run.scope], actor=OPERATOR, reason="test")
    taken = [leases.claim(stage, worker("a")) for _ in range(20)]

    assert len({work.slice_id for work in taken if work is not None}) == 20
    assert leases.claim(stage, worker("a")) is None


def test_a_statement_that_could_not_be_prepared_is_prepared_by_the_next_use():
    statement = PreparedStatement("test", "SELECT size + %(x)s FROM boxes", {"x": "integer"})
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE boxes AS SELECT 5 AS size")
        for _ in range(SEEN_BEFORE):
            statement.run(cursor, {"x": 1})
        cursor.execute("ALTER TABLE boxes RENAME TO cases")
        with pytest.raises(ProgrammingError, match="does not exist"):
            statement.run(cursor, {"x": 1})
        cursor.execute("ALTER TABLE cases RENAME TO boxes")

        for _ in range(2):
            statement.run(cursor, {"x": 1})
            assert cursor.fetchall() == [(6,)]

    assert sum(plans("test")) == 2


def test_a_column_of_another_type_stops_preparing_and_the_next_is_carried_out():
    statement = PreparedStatement("test", "SELECT size, %(x)s + 1 FROM boxes WHERE '100%%' LIKE '%%'", {"x": "integer"})
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE boxes AS SELECT 5 AS size")
        for number in range(SEEN_BEFORE + 3):
            statement.run(cursor, {"x": number})
            assert cursor.fetchall() == [(5, number + 1)]
        cursor.execute("ALTER TABLE boxes ALTER COLUMN size TYPE text")

        with pytest.raises(NotKept):
            statement.run(cursor, {"x": 1})

        statement.run(cursor, {"x": 1})
        assert cursor.fetchall() == [("5", 2)]


def test_other_errors_do_not_stop_it():
    statement = PreparedStatement("test", "SELECT 1 / %(x)s", {"x": "integer"})
    with connection.cursor() as cursor:
        for _ in range(SEEN_BEFORE + 2):
            statement.run(cursor, {"x": 1})
        with pytest.raises(DataError):
            statement.run(cursor, {"x": 0})
        statement.run(cursor, {"x": 1})

    assert sum(plans("test")) == 4


def test_a_parameter_without_a_type_is_named():
    with pytest.raises(TypeError, match="Cannot prepare test: expected types of all parameters, missing: y"):
        PreparedStatement("test", "SELECT %(x)s, %(y)s", {"x": "integer"})
