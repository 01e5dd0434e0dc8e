"""Timeouts of runs, in working time: pauses do not count."""

from __future__ import annotations

from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Func
from django.db.models.functions import Now

from automation.models import AutomationRun, Lifecycle
from automation.reports.working_time import durations_of
from automation.runs import failing


def fail_overdue() -> int:
    """Fail the runs that have exceeded their timeout; returns how many."""
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
