"""Problems of runs that nothing stops: loops that fail, items that wait, items that lose their workers.

Reported by ``gate.explain`` beside the reasons that stop a run. Three statements, by partial indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from automation import conf
from automation.models import WorkSlice
from automation.models.tables import SLICE, STAGE
from pause_manager.reasons import ReasonCode
from pause_manager.times import written

FAILING, WAITS, LOSES = ReasonCode.FAILING, ReasonCode.WAITS, ReasonCode.LOSES_WORKERS
MOST_LOST = 3
"""Items of a run that lose their workers are told, at most."""


@dataclass(frozen=True)
class Problem:
    """As a reason of the gate."""

    code: str
    sentence: str
    since: datetime | None
    lifted_by: str


def of(run_ids: Iterable[UUID]) -> dict[UUID, list[Problem]]:
    """What is in trouble of the running stages of each run."""
    values: dict[str, Any] = {"runs": list(run_ids), "often": conf.settings().verdict_crashes - 1, "most": MOST_LOST}
    found: dict[UUID, list[Problem]] = {}
    with connection.cursor() as cursor:
        for statement, told in ((_FAILING, _failing), (_WAITS, _waits), (_LOSES, _loses)):
            cursor.execute(statement, values)
            for run_id, *row in cursor.fetchall():
                found.setdefault(run_id, []).append(told(*row))
    return found


def yielding(run_ids: Sequence[UUID]) -> dict[UUID, list[tuple[str, str]]]:
    """By run, (node, why) of what was asked to leave its node and has not yet."""
    asked = WorkSlice.objects.leased().filter(stage_run__run__in=run_ids).exclude(lease_yield="")
    found: dict[UUID, list[tuple[str, str]]] = {}
    rows = asked.order_by("lease_node").values_list("stage_run__run", "lease_node", "lease_yield").distinct()
    for pk, node, why in rows:
        found.setdefault(pk, []).append((node, why))
    return found


def _failing(slug: str, failures: int, error: str, retry_at: datetime | None) -> Problem:
    often = "once" if failures == 1 else f"{failures} times in a row"
    again = f"; the next is sent for at {written(retry_at)}" if retry_at is not None else ""
    lifted = "a loop of it works; when as many as the stage allows have failed, the run fails"
    return Problem(FAILING, f"A loop of stage {slug} has failed {often}{again}: {error}", None, lifted)


def _waits(slug: str, items: int, key: str, waits: int, until: datetime, why: str) -> Problem:
    which = (
        f"Item {key} of stage {slug} waits" if items == 1 else f"{items} items of stage {slug} wait, {key} the first"
    )
    often = "" if waits == 1 else f" for time {waits}"
    lifted = "its time comes; when it has waited for as long as its stage allows, it fails"
    return Problem(WAITS, f"{which}{often}, until {written(until)}: {why}", None, lifted)


def _loses(slug: str, key: str, crashes: int, expiries: int) -> Problem:
    died = f"{crashes} processes died on it" if crashes else ""
    silent = f"{expiries} leases ended on it with nobody to blame" if expiries else ""
    sentence = f"An item of stage {slug} after {key or 'the first'} loses its workers: "
    lifted = "it is done; it is tried alone, and given up if more processes die on it"
    return Problem(LOSES, sentence + " and ".join(filter(None, (died, silent))) + ".", None, lifted)


_FAILING = f"""
    SELECT run_id, slug, loop_failures, loop_error,
           CASE WHEN loop_retry_at > statement_timestamp() THEN loop_retry_at END
      FROM {STAGE} WHERE run_id = ANY(%(runs)s::uuid[]) AND lifecycle = 'running' AND loop_failures > 0
     ORDER BY run_id, position
"""

_WAITS = f"""
    SELECT DISTINCT ON (stage.run_id, stage.position) stage.run_id, stage.slug,
           count(*) OVER (PARTITION BY stage.id), coalesce(nullif(slice.first_key, ''), 'a hook'), slice.waits,
           slice.available_at, slice.waits_for
      FROM {STAGE} AS stage JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
     WHERE stage.run_id = ANY(%(runs)s::uuid[]) AND stage.lifecycle = 'running' AND slice.finished_at IS NULL
       AND slice.waits > 0
       AND (slice.waits > 0 OR slice.crashes > 0 OR slice.expiries > 0)
       AND slice.lease_token IS NULL AND slice.available_at > statement_timestamp()
     ORDER BY stage.run_id, stage.position, slice.available_at
"""

_LOSES = f"""
    SELECT run_id, slug, cursor, crashes, expiries FROM (
           SELECT stage.run_id, stage.slug, slice.cursor, slice.crashes, slice.expiries,
                  row_number() OVER (PARTITION BY stage.run_id ORDER BY stage.position, slice.ordinal) AS number
             FROM {STAGE} AS stage JOIN {SLICE} AS slice ON slice.stage_run_id = stage.id
            WHERE stage.run_id = ANY(%(runs)s::uuid[]) AND stage.lifecycle = 'running' AND slice.finished_at IS NULL
              AND (slice.waits > 0 OR slice.crashes > 0 OR slice.expiries > 0)
              AND slice.crashes + slice.expiries >= %(often)s) AS lost
     WHERE number <= %(most)s ORDER BY run_id, number
"""
