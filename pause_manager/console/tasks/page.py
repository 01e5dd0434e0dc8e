"""The page of pausable tasks: what runs now, what waits, what nobody takes up, by the name of the task; what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from celery import current_app
from django.db import connection

from pause_manager.console.access import refusing
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.tasks import failed
from pause_manager.console.viewer import Viewer
from pause_manager.models import PauseQueueEntry
from pause_manager.models.fleet import OPERATE
from pause_manager.pausable import is_pausable, running_tasks, uses_of
from pause_manager.pausable.running_tasks import Running
from pause_manager.workloads import VIEW_ALL_ENTRIES

MOST_RUNNING = 200
MOST_NAMES = 200
MOST_COUNTED = 10_000
"""Of what waits that many are counted; more are shown as "10,000+"."""

_WAITING = f"""
    SELECT task_name, count(*), min(paused_at), count(*) FILTER (WHERE problem <> '')
      FROM (SELECT task_name, paused_at, problem FROM {PauseQueueEntry._meta.db_table}
             WHERE finished_at IS NULL AND ref NOT LIKE 'run:%%'
             ORDER BY priority, paused_at, id LIMIT %s) AS waiting
     GROUP BY task_name
"""


@dataclass
class Row:
    """One task by name."""

    name: str
    is_known: bool
    """Whether this process has it in its code."""
    uses: tuple[str, ...] = ()
    running: int = 0
    oldest: datetime | None = None
    waiting: int = 0
    waiting_since: datetime | None = None
    stuck: int = 0
    nodes: set[str] = field(default_factory=set)


def context(viewer: Viewer, query: Query) -> Context:
    """Return the context of the page."""
    rows = {name: Row(name, is_known=True, uses=uses) for name, uses in declared().items()}
    running = running_tasks.running()
    for task in running:
        _add(rows, task)
    counted = 0
    for name, count, since, stuck in _waiting():
        row = rows.setdefault(name, Row(name, is_known=False))
        row.waiting, row.waiting_since, row.stuck = count, since, stuck
        counted += count
    name = query.get("failed", "").replace("\0", "")
    failures, is_more_failed = failed.listed(viewer, name)
    ordered = sorted(rows.values(), key=lambda row: (-row.stuck, -row.running, -row.waiting, row.name))
    return {
        "rows": ordered[:MOST_NAMES],
        "count": len(ordered),
        "running": running[:MOST_RUNNING],
        "running_count": len(running),
        "waiting_count": min(counted, MOST_COUNTED),
        "is_more": counted > MOST_COUNTED,
        "stuck_count": sum(row.stuck for row in ordered),
        "failures": failures,
        "is_more_failed": is_more_failed,
        "failed_name": name,
        "failed_names": sorted({one.task.task_name for one in failures}),
        "may_see_failed": viewer.has_perm(failed.VIEW),
        "may_retry": viewer.has_perm(failed.RETRY),
    }


def _add(rows: dict[str, Row], task: Running) -> None:
    row = rows.setdefault(task.task_name, Row(task.task_name, is_known=False))
    row.running += 1
    row.oldest = min(filter(None, [row.oldest, task.started_at]))
    row.nodes.add(task.node)


def _waiting() -> list[tuple[str, int, datetime, int]]:
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [MOST_COUNTED + 1])
        return list(cursor.fetchall())


@lru_cache(maxsize=1)
def declared() -> dict[str, tuple[str, ...]]:
    """Return the pausable tasks that this process has in its code, and the resources that each uses."""
    current_app.loader.import_default_modules()
    return {name: tuple(uses_of(task)) for name, task in current_app.tasks.items() if is_pausable(task)}


@refusing(
    "To see this page, you need the permission to operate the fleet, to view pause queue entries or failed tasks."
)
def may_view(user: Any) -> bool:
    """Operators of the fleet, and who may read all of the pause queue or what failed."""
    return any(user.has_perm(name) for name in (OPERATE, VIEW_ALL_ENTRIES, failed.VIEW))


PAGE = Page(
    name="tasks",
    path="tasks/",
    title="Tasks",
    template="console/tasks/content.html",
    context=context,
    may_view=may_view,
    icon="tasks",
    order=220,
    key="t",
    refresh_seconds=2.0,
    is_shared=True,
    styles=("console/fleet.css",),
    actions={
        "retry": Action(failed.retry, failed.RETRY),
        "retry_changed": Action(failed.retry_changed, failed.RETRY),
    },
    is_offered=lambda: bool(declared()),
)
