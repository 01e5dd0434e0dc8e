"""Totals, processed items, percentage, rates and estimates of a run, read from its slices, never from queues."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from automation.gate import installed_code
from automation.models import TERMINAL, AutomationRun, Lifecycle
from automation.models.tables import STAGE
from automation.reports import in_flight, status
from automation.reports.slice_totals import DONE
from automation.reports.working_time import durations_of

_FACTS = f"""
    SELECT stage.slug, stage.definition->>'title', stage.lifecycle, stage.total_items, stage.left_out, stage.started_at,
           stage.finished_at, stage.paused_seconds_at_start, stage.paused_seconds_at_end, statement_timestamp(),
           done.processed, done.failed
      FROM {STAGE} AS stage CROSS JOIN LATERAL ({DONE}) AS done
     WHERE stage.run_id = %s AND stage.position >= 0
     ORDER BY stage.position
"""


def snapshot(run: AutomationRun, *, has_reasons: bool | None = None) -> dict[str, Any]:
    """``{"status", "overall": {…}, "stages": [{slug, title, status, …}], "in_flight": […], "durations": {…}}``.

    Every part has ``total_items``, ``processed_items``, ``failed_items``, ``remaining_count`` (items; they add up),
    ``percentage`` (0 to 100, of items processed or failed), ``items_per_second`` and ``eta_seconds`` (of working
    time; ``None`` while unknown). ``overall`` counts items of the run's input, fixed at its creation: every
    stage has the same weight, so it never falls when a stage is larger than the one before it.
    ``has_reasons`` is of :func:`automation.reports.status.of`.
    """
    now = status.of(run, has_reasons=has_reasons)
    stages, shares = _stages(run, now)
    durations = durations_of([run])[run.pk]
    total = run.total_items
    overall = whole(total, shares)
    done = total - overall["remaining_count"]
    rate = done / durations.active if durations.active > 0 and done else None
    overall["items_per_second"] = _rounded(rate)
    overall["eta_seconds"] = _eta(run, total - done, rate)
    return {
        "status": now,
        "overall": overall,
        "stages": stages,
        "in_flight": in_flight.leases_of([run.pk]),
        "durations": {"total_seconds": _rounded(durations.total), "active_seconds": _rounded(durations.active)},
    }


def whole(total: int, shares: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Counts of a run of ``total`` input items from the (processed, failed) shares of its stages, 0 to 1.

    Each is rounded down by itself, so that none falls when another rises. At the end the remainder counts as processed.
    """
    processed_share, failed_share = (sum(share) / len(shares) for share in zip(*shares, strict=True))
    is_done = processed_share + failed_share > 1 - 1e-9
    failed = int(total * failed_share + 1e-9)
    counts = _counts(total, total - failed if is_done else int(total * processed_share + 1e-9), failed)
    percentage = 100 * (processed_share + failed_share)
    counts["percentage"] = 100.0 if is_done else min(round(percentage, 2), 99.99)
    return counts


def _stages(run: AutomationRun, now_shown: str) -> tuple[list[dict[str, Any]], list[tuple[float, float]]]:
    with connection.cursor() as cursor:
        cursor.execute(_FACTS, [run.pk])
        rows = cursor.fetchall()
    stages, shares = [], []
    for slug, title, lifecycle, total, left_out, started_at, finished_at, *paused, now, processed, failed in rows:
        paused_then, paused_end = paused
        is_complete = lifecycle == Lifecycle.COMPLETED
        done = processed + failed
        if total:
            shares.append((processed / total, failed / total))
        else:
            shares.append((float(is_complete), 0.0))
        rate = None
        if started_at is not None and done:
            paused = (paused_end if is_complete else _paused_until(run, now)) - paused_then
            active = ((finished_at or run.finished_at or now) - started_at).total_seconds() - paused
            rate = done / active if active > 0 else None
        entry = {
            "slug": slug,
            "title": title or installed_code.title_of(run.pipeline, slug),
            "status": _stage_status(run, lifecycle, now_shown),
        }
        entry["left_out_items"] = left_out
        entry |= _counts(total or 0, processed, failed)
        entry["percentage"] = _percentage(done, total, is_complete)
        entry["items_per_second"] = _rounded(rate)
        entry["eta_seconds"] = _eta(run, (total or 0) - done, rate) if lifecycle == Lifecycle.RUNNING else None
        stages.append(entry)
    return stages, shares


def _paused_until(run: AutomationRun, now: datetime) -> float:
    """Seconds of pause until ``now``, the current pause included."""
    current = (now - run.paused_at).total_seconds() if run.paused_at is not None else 0.0
    return run.paused_seconds + current


def _stage_status(run: AutomationRun, lifecycle: str, now_shown: str) -> str:
    """A running stage has the status of its run; a stage that will never run has the final status of its run."""
    if lifecycle == Lifecycle.COMPLETED:
        return lifecycle
    if run.lifecycle in TERMINAL:
        return run.lifecycle
    return now_shown if lifecycle == Lifecycle.RUNNING else lifecycle


def _counts(total: int, processed: int, failed: int) -> dict[str, Any]:
    return {
        "total_items": total,
        "processed_items": processed,
        "failed_items": failed,
        "remaining_count": total - processed - failed,
    }


def _percentage(done: int, total: int | None, is_complete: bool) -> float:
    """Of items done; 100 only when none is left."""
    if not total or done >= total:
        return 100.0 if is_complete or total else 0.0
    return min(round(100 * done / total, 2), 99.99)


def _eta(run: AutomationRun, remaining: int, rate: float | None) -> float | None:
    if run.lifecycle in TERMINAL or not rate:
        return None
    return _rounded(remaining / rate)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
