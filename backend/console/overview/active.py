"""A few of the runs that are running, with their progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection

from automation.gate import installed_code
from automation.models import AutomationRun, Lifecycle
from automation.models.tables import STAGE
from automation.reports import status
from automation.reports.slice_totals import DONE

MOST = 6
COUNTED = 1_000
"""More runs than these are "1,000+"."""


@dataclass(frozen=True)
class Active:
    """One row."""

    run: AutomationRun
    title: str
    status: str
    percentage: float
    failed: int


def shown(user: Any) -> list[Active]:
    """The newest runs that have started and not ended. Two statements, and the gate's for all of them."""
    runs = AutomationRun.objects.visible_to(user).filter(lifecycle=Lifecycle.RUNNING, finished_at__isnull=True)
    rows = list(runs.with_leases().order_by("-created_at", "-id")[:MOST])
    with connection.cursor() as cursor:
        cursor.execute(_SHARES, [[run.pk for run in rows]])
        shares = {run_id: (float(share), failed) for run_id, share, failed in cursor.fetchall()}
    now = status.of_each(rows)
    return [
        Active(run, installed_code.pipeline_title(run.pipeline), now[run.pk], *shares.get(run.pk, (0.0, 0)))
        for run in rows
    ]


def count(user: Any) -> int:
    """How many there are, ``COUNTED`` at most."""
    runs = AutomationRun.objects.visible_to(user).filter(lifecycle=Lifecycle.RUNNING, finished_at__isnull=True)
    return len(runs.order_by().values_list("pk")[:COUNTED])


def has_any(user: Any) -> bool:
    """Whether there is any run that the user may see."""
    return AutomationRun.objects.visible_to(user).exists()


_SHARES = f"""
    SELECT stage.run_id,
           100 * avg(CASE WHEN stage.total_items > 0
                          THEN least(1.0, (done.processed + done.failed)::float8 / stage.total_items)
                          WHEN stage.lifecycle = 'completed' THEN 1.0 ELSE 0.0 END),
           sum(done.failed)::bigint
      FROM {STAGE} AS stage CROSS JOIN LATERAL ({DONE}) AS done
     WHERE stage.run_id = ANY(%s) AND stage.position >= 0
     GROUP BY stage.run_id
"""
"""As on the list of runs: the mean of the shares of the stages."""
