"""Deletes what is kept no longer: in batches, each found by an index and in a transaction of its own."""

from __future__ import annotations

from typing import Any

from django.db import connection

SIZE = 1_000


def delete(table: str, order: str, where: str, values: dict[str, Any] | None = None, size: int | None = None) -> int:
    """Delete the rows of ``table`` with ``where`` (SQL over ``old``), in the order of the indexed ``order``; how many.

    No row is read but for ``order`` and ``where``, and what somebody has locked is left for the next time. The rows of
    a batch are chosen once: a subquery of the DELETE may be run for each row that it is joined to, and then chooses
    others.
    """
    statement = f"""
        WITH chosen AS MATERIALIZED (
            SELECT id FROM {table} AS old WHERE {where} ORDER BY {order} LIMIT %(size)s FOR UPDATE SKIP LOCKED)
        DELETE FROM {table} WHERE id IN (SELECT id FROM chosen)
    """
    size = size or SIZE
    deleted = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(statement, {**(values or {}), "size": size})
            gone: int = cursor.rowcount
        deleted += gone
        if gone < size:
            return deleted
