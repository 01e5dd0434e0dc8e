"""Timeouts of runs and of their stages, in working time: pauses do not count."""

from __future__ import annotations

from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Func
from django.db.models.functions import Now

from automation.models import AutomationRun, Lifecycle
from automation.reports.working_time import durations_of, overdue_stages
from automation.runs import failing


def fail_overdue() -> int:
    """Fail the runs that have exceeded their timeout, or that of a stage; returns how many."""
    return _fail_overdue_runs() + _fail_of_overdue_stages()


def _fail_of_overdue_stages() -> int:
    found = {stage.run_id: stage for stage in overdue_stages()}
    for pk, stage in found.items():
        sentence = (
            f"Stage {stage.slug} worked for {stage.active:.0f} s; its timeout is {stage.allowed:g} s. "
            "Pauses do not count."
        )
        details = {"stage": stage.slug, "worked_seconds": round(stage.active, 3), "timeout_seconds": stage.allowed}
        failing.fail(pk, reason=sentence, details=details)
    return len(found)


def _fail_overdue_runs() -> int:
    limit = Func(F("timeout_seconds"), template="make_interval(secs => %(expressions)s)", output_field=DurationField())
    started = ExpressionWrapper(Now() - limit, output_field=DateTimeField())
    could = AutomationRun.objects.unfinished().filter(
        lifecycle=Lifecycle.RUNNING, cancel_requested_at=None, timeout_seconds__isnull=False, started_at__lt=started
    )
    runs = list(could)
    allowed = {run.pk: run.timeout_seconds or 0.0 for run in runs}
    failed = 0
    for pk, taken in durations_of(runs).items():
        if taken.active <= allowed[pk]:
            continue
        sentence = f"It worked for {taken.active:.0f} s; its timeout is {allowed[pk]:g} s. Pauses do not count."
        details = {"worked_seconds": round(taken.active, 3), "timeout_seconds": allowed[pk]}
        failing.fail(pk, reason=sentence, details=details)
        failed += 1
    return failed
