"""A database that does not take what it is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def database_that_refuses(number: int) -> Iterator[None]:
    """It takes no item with this ``n``: stands for a limit of its own that nothing of ours knows of."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'string too long to represent as jsonb string' USING ERRCODE = '54000'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON automation_workitem FOR EACH ROW "
            f"WHEN ((NEW.payload->>'n')::numeric = {number} AND NEW.key LIKE '%%.%%') EXECUTE FUNCTION refuse()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse() CASCADE")
