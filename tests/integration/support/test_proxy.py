"""The proxy breaks what it is told to break, where it is told to, and nothing else."""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis
from django.db import connection
from psycopg import ClientCursor

from tests.support.proxy import Fault, PostgresProxy, Proxy, shape_of
from tests.support.workers import eventually

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = "INSERT INTO broken (n) VALUES (%s)"


@pytest.fixture
def proxy() -> Iterator[PostgresProxy]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE broken (n int)")
    with PostgresProxy.of(connection.settings_dict) as opened:
        yield opened
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE broken")


def connect(proxy: PostgresProxy, **options: Any) -> psycopg.Connection[Any]:
    at = connection.settings_dict
    return psycopg.connect(host=proxy.host, dbname=at["NAME"], user=at["USER"], password=at["PASSWORD"], **options)


def in_pipeline(client: psycopg.Connection[Any], *statements: LiteralString) -> None:
    with client.pipeline():
        for statement in statements:
            client.execute(statement)


def written() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT n FROM broken ORDER BY n")
        return [n for (n,) in cursor.fetchall()]


@pytest.mark.parametrize("cursor", [psycopg.Cursor, ClientCursor], ids=["extended", "simple"])
@pytest.mark.parametrize(("when", "is_written"), [("before", False), ("after", True)])
def test_a_statement_is_cut_off_or_its_answer_is(proxy: PostgresProxy, cursor: Any, when: Any, is_written: bool):
    fault = Fault(re.compile("INSERT INTO broken"), nth=2, when=when)
    with connect(proxy, autocommit=True, cursor_factory=cursor) as client:
        proxy.arm(fault)
        client.execute(INSERT, [1])
        assert client.execute("SELECT 'a' FROM broken").fetchall() == [("a",)]

        with pytest.raises(psycopg.OperationalError):
            client.execute(INSERT, [2])

    assert fault.fired.is_set()
    assert fault.statement is not None
    assert fault.statement.shape.startswith("INSERT INTO broken (n) VALUES (?")
    assert eventually(lambda: written() == [1, 2][: 1 + is_written]), "the server is not in the middle of it"
    with connect(proxy, autocommit=True) as again:
        again.execute(INSERT, [3])
    assert 3 in written()


@pytest.mark.parametrize(("when", "is_written"), [("before", False), ("after", True)])
def test_the_answer_to_a_commit_is_lost(proxy: PostgresProxy, when: Any, is_written: bool):
    with connect(proxy) as client:
        proxy.arm(Fault("COMMIT of: INSERT INTO broken (n) VALUES (?)", when=when))
        client.execute("SELECT 1")
        client.commit()
        client.execute(INSERT, [1])

        with pytest.raises(psycopg.OperationalError):
            client.commit()

    assert eventually(lambda: bool(written()) == is_written)


def test_a_pipeline_is_cut_at_one_of_its_statements(proxy: PostgresProxy):
    proxy.arm(Fault(re.compile("INSERT INTO broken"), nth=2, when="after"))
    with connect(proxy, autocommit=True) as client, pytest.raises(psycopg.OperationalError):
        in_pipeline(client, *["INSERT INTO broken VALUES (1)"] * 3)

    # What stands between two Syncs is one transaction, and is executed as a whole or not at all.
    assert eventually(written) in ([1] * 2, [1] * 3)


def test_an_error_and_a_copy_do_not_confuse_it(proxy: PostgresProxy):
    fault = Fault(re.compile("SELECT"), nth=2, when="after")
    with connect(proxy, autocommit=True) as client:
        for _ in range(2):
            with pytest.raises(psycopg.errors.UndefinedTable):
                in_pipeline(client, "INSERT INTO nowhere VALUES (1)", "INSERT INTO broken VALUES (1)")
        with client.cursor().copy("COPY broken FROM STDIN") as copy:
            copy.write("7\n8\n" * 20_000)
        proxy.arm(fault)
        assert client.execute("SELECT count(*) FROM broken").fetchone() == (40_000,)

        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT count(*) FROM broken")

    assert fault.fired.is_set()


def test_statements_are_counted_for_each_connection_or_for_all(proxy: PostgresProxy):
    with connect(proxy, autocommit=True) as one, connect(proxy, autocommit=True) as two:
        proxy.arm(Fault(re.compile("INSERT"), nth=2, is_per_connection=True))
        one.execute(INSERT, [1])
        two.execute(INSERT, [2])
        with pytest.raises(psycopg.OperationalError):
            two.execute(INSERT, [3])
        one.execute(INSERT, [4])
    with connect(proxy, autocommit=True) as one, connect(proxy, autocommit=True) as two:
        proxy.arm(Fault(re.compile("INSERT"), nth=2))
        one.execute(INSERT, [5])
        with pytest.raises(psycopg.OperationalError):
            two.execute(INSERT, [6])

    assert written() == [1, 2, 4, 5]


def test_what_passes_is_recorded_without_its_values(proxy: PostgresProxy):
    with connect(proxy, cursor_factory=ClientCursor) as client, proxy.recorded() as statements:
        client.execute("INSERT INTO broken (n) VALUES (%s), (%s)", [1, 2])
        client.execute("SELECT n FROM broken WHERE n = ANY(%s) AND %s <> 'it''s'", [[1, 2], "a"])
        client.commit()

    assert [one.shape for one in statements] == [
        "BEGIN",
        "INSERT INTO broken (n) VALUES (?)",
        "SELECT n FROM broken WHERE n = ANY(?) AND ? <> ?",
        "COMMIT of: INSERT INTO broken (n) VALUES (?)",
    ]


def test_shapes_are_the_same_whatever_the_values():
    assert shape_of('UPDATE "t" SET a1 = 5, b = NULL WHERE "t"."c" IN (1, 2)') == shape_of(
        'UPDATE "t" SET a1 = -6.5,\n  b = NULL WHERE "t"."c" IN (3)'
    )
    assert shape_of('RELEASE SAVEPOINT "s140_x1"') == shape_of('RELEASE SAVEPOINT "s99_x23"')
    assert shape_of("SELECT 'a'::jsonb, E'x\\\\y'") == "SELECT ?"


def test_all_are_cut_and_new_ones_refused_while_it_is_away(proxy: PostgresProxy):
    clients = [connect(proxy, autocommit=True) for _ in range(3)]
    with proxy.away():
        for client in clients:
            with pytest.raises(psycopg.OperationalError):
                client.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="No such file"):
            connect(proxy)
        assert eventually(lambda: proxy.open == 0)

    with connect(proxy) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_a_stalled_one_answers_when_it_flows_again(proxy: PostgresProxy):
    with connect(proxy, autocommit=True) as client, ThreadPoolExecutor() as threads:
        with proxy.stalled():
            answer = threads.submit(client.execute, "SELECT 1")
            newcomer = threads.submit(connect, proxy)
            time.sleep(0.3)
            assert not answer.done()
            assert not newcomer.done()

        assert answer.result(10).fetchone() == (1,)
        newcomer.result(10).close()


def test_connections_live_for_as_long_as_the_dice_say(proxy: PostgresProxy):
    with connect(proxy, autocommit=True) as before:
        proxy.live_for(lambda: 0.2)
        with connect(proxy, autocommit=True) as client:
            for one in (before, client):
                with pytest.raises(psycopg.OperationalError):
                    one.execute("SELECT pg_sleep(5)")
    proxy.live_for(None)
    with connect(proxy, autocommit=True) as client:
        client.execute("SELECT pg_sleep(0.4)")


@pytest.mark.parametrize("over_tcp", [False, True])
def test_it_stands_before_any_server(over_tcp: bool):
    url = urlsplit(os.environ["REDIS_URL"])
    upstream = url.path if url.scheme == "unix" else (url.hostname or "localhost", url.port or 6379)
    number = int((parse_qs(url.query).get("db") or [url.path.strip("/") or "0"])[0])
    with Proxy(upstream, over_tcp=over_tcp) as proxy:
        at = (
            {"unix_socket_path": proxy.address}
            if isinstance(proxy.address, str)
            else {"host": proxy.address[0], "port": proxy.address[1]}
        )
        client = redis.Redis(**at, db=number, retry=None)  # type: ignore[arg-type]
        client.set("large", b"x" * 3_000_000)
        assert client.get("large") == b"x" * 3_000_000

        assert proxy.cut_some(0.0, random.Random(1)) == 0
        assert proxy.cut() == 1
        with contextlib.suppress(redis.ConnectionError):
            client.ping()
        client.set("small", "y")
        assert client.get("small") == b"y"
        client.close()
        assert eventually(lambda: proxy.open == 0)
