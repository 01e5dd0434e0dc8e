"""Fills a database by statements over sets: a million runs take minutes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from django.db import connection


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    ended: int = 980_000
    unfinished: int = 20_000
    long_run_slices: int = 10_000
    """Of one running run."""
    waiting_entries: int = 100_000
    ended_entries: int = 300_000
    schedules: int = 3_000
    occurrences: int = 30
    """Of each schedule."""
    charges: int = 100_000
    """Of the large account in the last month, each with ten lines."""

    def scaled(self, share: float) -> Size:
        """The same mix with a share of the rows; the long run keeps its slices."""
        kept = {"long_run_slices", "occurrences"}
        return Size(**{name: n if name in kept else max(500, int(n * share)) for name, n in asdict(self).items()})


@dataclass(frozen=True)
class Step:
    """Statements that fill ``tables``, whose indexes are made when all rows are there."""

    title: str
    tables: Sequence[str]
    statements: Sequence[str]


def fill(steps: Sequence[Step], values: dict[str, Any]) -> None:
    """Make everything, and let the planner know. Triggers and foreign keys are not asked: the statements say it all."""
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SET maintenance_work_mem = '512MB'")
        cursor.execute("SET work_mem = '256MB'")
        cursor.execute("SET session_replication_role = replica")
        for step in steps:
            begun = time.perf_counter()
            with _without_indexes(cursor, step.tables):
                for statement in step.statements:
                    cursor.execute(statement, values)
            for table in step.tables:
                cursor.execute(f"VACUUM ANALYZE {table}")
            print(f"{step.title}: {time.perf_counter() - begun:.0f} s", flush=True)
        cursor.execute("RESET session_replication_role")
        cursor.execute("CHECKPOINT")


@contextmanager
def _without_indexes(cursor: Any, tables: Sequence[str]) -> Iterator[None]:
    """Take the indexes away that no constraint owns, and make them again at the end."""
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
        "WHERE indrelid = ANY(%s::regclass[]) AND indexrelid NOT IN (SELECT conindid FROM pg_constraint)",
        [list(tables)],
    )
    found = cursor.fetchall()
    for name, _ in found:
        cursor.execute(f"DROP INDEX {name}")
    yield
    for _, definition in found:
        cursor.execute(definition)
