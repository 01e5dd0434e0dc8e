"""A run as JSON lines, read in chunks so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from django.db import connection

from automation.items.store import CHUNK, CHUNK_BYTES
from automation.models import AutomationRun, RunQuestion, StageRun
from automation.models.tables import ITEM, ITEM_FAILURE
from pause_manager.models import ControlEvent
from pause_manager.observability import audit_export

FORMAT = 1
FIRST_CHUNK = 16
"""Rows in the first chunk, when their size is not yet known."""


def lines(run: AutomationRun, counts: dict[str, int] | None = None) -> Iterator[bytes]:
    """Yield one JSON object per line with its ``kind``; last ``end`` with the counts.

    The kinds are run, stage, item, failure, question and event.

    A file without ``end`` is incomplete. ``counts`` is updated while lines are read. A final run does not change; an
    unfinished one is archived as it is when each part is read.
    """
    counts = {} if counts is None else counts
    counts.update({"stage": 0, "item": 0, "failure": 0, "question": 0, "event": 0})
    stage_runs = list(run.stages.order_by("position"))
    yield _line("run", format=FORMAT, **_fields(run), site=run.site.slug)
    for stage_run in stage_runs:
        counts["stage"] += 1
        yield _line("stage", **_fields(stage_run))
    for kind, table, parent, columns in (
        ("item", ITEM, "made_by_id", ""),
        ("failure", ITEM_FAILURE, "stage_run_id", ", 'error', error, 'attempts', attempts"),
    ):
        for stage_run in stage_runs:
            for text in _rows(kind, table, parent, columns, stage_run):
                counts[kind] += 1
                yield text.encode() + b"\n"
    slugs = {stage_run.pk: stage_run.slug for stage_run in stage_runs}
    for question in RunQuestion.objects.filter(run=run).order_by("id"):
        counts["question"] += 1
        facts = _fields(question)
        yield _line("question", stage=slugs[question.stage_run_id], about=facts.pop("kind"), **facts)
    for chunk in audit_export.chunks(ControlEvent.objects.filter(scope=run.scope)):
        for event in chunk:
            counts["event"] += 1
            yield _line("event", **{name: getattr(event, name) for name in audit_export.COLUMNS})
    yield _line("end", **counts)


def _line(kind: str, **facts: Any) -> bytes:
    return orjson.dumps({"kind": kind, **facts}, default=str) + b"\n"


def _fields(row: AutomationRun | StageRun | RunQuestion) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def _rows(kind: str, table: str, parent: str, columns: str, stage_run: StageRun) -> Iterator[str]:
    """JSON texts made by PostgreSQL, in order of their keys, about ``CHUNK_BYTES`` at a time."""
    statement = f"""
        SELECT key, jsonb_build_object('kind', '{kind}', 'stage', %s::text, 'key', key, 'payload', payload{columns})
                    ::text
          FROM {table} WHERE {parent} = %s AND key > %s ORDER BY key LIMIT %s
    """
    after, size = "", FIRST_CHUNK
    while True:
        with connection.cursor() as cursor:
            cursor.execute(statement, [stage_run.slug, stage_run.pk, after, size])
            found = cursor.fetchall()
        yield from (text for _, text in found)
        if len(found) < size:
            return
        after = found[-1][0]
        length = sum(len(text) for _, text in found)
        size = max(1, min(CHUNK, CHUNK_BYTES * len(found) // length))
