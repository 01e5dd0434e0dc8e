"""What an operator does with schedules: pause, resume, skip one, run now, delete."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.urls import reverse
from django.utils.dateparse import parse_datetime

from automation.models import Schedule
from automation.schedules import definitions, report, starting
from pause_manager.console.pages import Done, Refused, Request


def find(user: object, number: str) -> Schedule:
    """Return the schedule of this number, if the user may see it. Raises ``Refused``."""
    found = None
    if number.isascii() and number.isdecimal() and len(number) < 19:
        found = Schedule.objects.visible_to(user).select_related("site__account").filter(pk=int(number)).first()
    if found is None:
        raise Refused(f"Cannot do that: there is no schedule {number[:40]}, or you do not have access to it.")
    return found


def pause(request: Request) -> str:
    """Pause a schedule until somebody resumes it."""
    schedule = _asked(request)
    definitions.pause(schedule.pk, actor=request.actor, reason=request.reason)
    return f"Schedule {schedule} is paused."


def resume(request: Request) -> str:
    """Resume a paused schedule."""
    schedule = _asked(request)
    definitions.resume(schedule.pk, actor=request.actor, reason=request.reason)
    return f"Schedule {schedule} comes again."


def skip(request: Request) -> str:
    """Skip one time: the one that ``due_at`` names, else the next."""
    schedule = _asked(request)
    at = definitions.skip(schedule.pk, _due_at(request), actor=request.actor, reason=request.reason)
    return f"Schedule {schedule} skips {report.local(at, schedule.rule.zone)}."


def unskip(request: Request) -> str | Done:
    """Let a time come after all that was skipped or paused."""
    schedule = _asked(request)
    due_at = _due_at(request)
    if due_at is None:
        raise Refused("Cannot do that: the time is missing.")
    run = definitions.resume_occurrence(schedule.pk, due_at, actor=request.actor, reason=request.reason)
    if run is not None:
        return _started(schedule, run.pk)
    return f"Schedule {schedule} comes at {report.local(due_at, schedule.rule.zone)} after all."


def run(request: Request) -> Done:
    """Start a run of the schedule now; with ``queue``, behind an unfinished one of the site."""
    schedule = _asked(request)
    is_queued = request.values.get("queue") == "1"
    made = starting.run_now(schedule.pk, actor=request.actor, reason=request.reason, queued=is_queued)
    return _started(schedule, made.pk)


def delete(request: Request) -> str:
    """Delete a schedule; its runs stay."""
    schedule = _asked(request)
    definitions.delete(schedule.pk, actor=request.actor, reason=request.reason)
    return f"Schedule {schedule} is deleted; its runs stay."


def _started(schedule: Schedule, run_id: UUID) -> Done:
    return Done(f"Started a run of schedule {schedule}.", location=reverse("console:run", args=[run_id]))


def _asked(request: Request) -> Schedule:
    return find(request.user, request.required("schedule", "the schedule"))


def _due_at(request: Request) -> datetime | None:
    text = request.values.get("due_at", "").strip()
    if not text:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Refused(f"Cannot do that: expected a time with its zone, such as 2026-11-30T08:00:00Z, got: {text[:40]}.")
    return found
