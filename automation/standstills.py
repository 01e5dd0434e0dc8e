"""The times at which nothing of a run could be worked on though no hold kept it: its working clock stood."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from automation import installed
from automation.models import AutomationRun, StageRun, Standstill

CODE_MISSING = "code_missing"

_RUN, _STAGE, _STANDSTILL = (model._meta.db_table for model in (AutomationRun, StageRun, Standstill))


def keep(code: str, run_ids: Sequence[UUID]) -> None:
    """From now on exactly ``run_ids`` stand still for the reason ``code``; the others that did go on. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, {"code": code, "ids": list(run_ids)})


def note_code_missing() -> None:
    """Note the running runs that have no stage this release can work on."""
    with connection.cursor() as cursor:
        cursor.execute(_WITHOUT_CODE, {"installed": installed.keys()})
        run_ids = [row[0] for row in cursor.fetchall()]
    keep(CODE_MISSING, run_ids)


def since(run_id: UUID, code: str) -> datetime | None:
    """Since when the run has stood still for this reason, if it has been noted."""
    now = Standstill.objects.filter(run=run_id, code=code, until__isnull=True)
    return now.values_list("since", flat=True).first()


_KEEP = f"""
    WITH over AS (
        UPDATE {_STANDSTILL} SET until = statement_timestamp()
         WHERE code = %(code)s AND until IS NULL AND NOT run_id = ANY(%(ids)s::uuid[]))
    INSERT INTO {_STANDSTILL} (run_id, code)
    SELECT run.id, %(code)s FROM {_RUN} AS run
     WHERE run.id = ANY(%(ids)s::uuid[]) AND NOT EXISTS (
           SELECT FROM {_STANDSTILL} WHERE run_id = run.id AND code = %(code)s AND until IS NULL)
        ON CONFLICT DO NOTHING
"""

_WITHOUT_CODE = f"""
    SELECT run.id
      FROM {_STAGE} AS stage JOIN {_RUN} AS run ON run.id = stage.run_id
     WHERE stage.lifecycle = 'running' AND run.lifecycle = 'running'
     GROUP BY run.id HAVING NOT bool_or(coalesce({installed.IS_HERE}, false))
"""
