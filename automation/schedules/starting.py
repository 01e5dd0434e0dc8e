"""Start the occurrences that are due, each once: its row, its run and the schedule's next time are one transaction.

Whatever dies, and however many control workers do this at once: a schedule is locked while it is looked at, what
another has locked is left to it, and the pair of schedule and time is unique.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from automation import conf
from automation.errors import AutomationError, ScheduleRefused, SiteBusy
from automation.models import AutomationRun, Lifecycle, Schedule, ScheduleOccurrence, Site
from automation.runs import creation
from automation.schedules import held_time, timetable, writer
from pause_manager import database, times
from pause_manager.actor import Actor
from pause_manager.models.clock import database_now
from pause_manager.observability import audit
from pause_manager.recurrence import wall_clock

logger = logging.getLogger("automation.schedules.starting")

Outcome = ScheduleOccurrence.Outcome


class _Decided(Exception):
    """Somebody has decided about the occurrence meanwhile."""


AT_ONCE = 500
"""Most schedules that one call looks at."""


def actor_of(schedule: Schedule) -> Actor:
    """The schedule as the one who acts."""
    return Actor(f"schedule:{schedule}"[:160], "schedule")


def start_due() -> int:
    """Start what is due, and end the pauses that are over; returns how many schedules were looked at."""
    for pk in list(Schedule.objects.filter(paused_until__lte=Now()).values_list("pk", flat=True)[:AT_ONCE]):
        _guarded(_end_pause, pk)
    due = list(Schedule.objects.due().order_by("next_due_at").values_list("pk", flat=True)[:AT_ONCE])
    return sum(_guarded(_start, pk) for pk in due)


def _guarded(step: Callable[[int], bool], pk: int) -> bool:
    """Carry out ``step`` in a transaction; an error is logged and keeps no other schedule."""
    try:
        with transaction.atomic():
            return step(pk)
    except Exception as error:
        if database.is_away(error):
            raise
        logger.exception("Schedule %d could not be looked at; continuing with the others.", pk)
        return False


def _end_pause(pk: int) -> bool:
    schedule = locked(pk, skip_locked=True)
    if schedule is None or schedule.paused_at is None:
        return False
    if not writer.resume(schedule, only_if_over=True):
        return False
    held_time.extend_expiry(schedule, database_now(), schedule.paused_at)
    audit.record(
        "schedule_resumed",
        scope=schedule.scope,
        actor=actor_of(schedule),
        reason=f"it was paused until {times.written(schedule.paused_until or database_now())}",
        details={"schedule": str(schedule)},
    )
    return True


def locked(pk: int, *, skip_locked: bool = False) -> Schedule | None:
    """The schedule with its site, its row locked until the transaction ends; ``None`` if there is none (to be had)."""
    rows = Schedule.objects.select_for_update(skip_locked=skip_locked, of=("self",))
    return rows.select_related("site__account").filter(pk=pk).first()


def _start(pk: int) -> bool:
    schedule = locked(pk, skip_locked=True)
    if schedule is None or not Schedule.objects.due().filter(pk=pk).exists():
        return False  # somebody else has done it, or it was switched off
    assert schedule.next_due_at is not None
    now = database_now()
    if schedule.expires_at is not None and schedule.expires_at <= now:
        held_time.extend_expiry(schedule, now)
    options = conf.settings()
    found = timetable.plan(
        schedule.rule,
        schedule.next_due_at,
        now,
        catch_up=schedule.catch_up,
        grace=timedelta(seconds=options.schedule_grace_seconds),
        most=options.schedule_catch_up,
        expires_at=schedule.expires_at,
    )
    _record_missed(schedule, found)
    lock_site(schedule.site)
    for due_at in found.started:
        _start_one(schedule, due_at, backlog=found.started)
    writer.come_next(schedule, found.next)
    if found.next is None:
        _tell_of_its_end(schedule)
    return True


def _record_missed(schedule: Schedule, found: timetable.Plan) -> None:
    for number, due_at in enumerate(found.missed):
        more = f"; so were {found.more_missed:,} earlier ones" if found.more_missed and not number else ""
        reason = f"it was not looked at in time, and catch_up is {schedule.catch_up}{more}"
        writer.record(schedule, due_at, Outcome.MISSED, actor=actor_of(schedule), reason=reason)


def _tell_of_its_end(schedule: Schedule) -> None:
    ends = f"it expired at {times.written(schedule.expires_at)}" if schedule.expires_at else "its rule has no next time"
    audit.record(
        "schedule_ended",
        scope=schedule.scope,
        actor=actor_of(schedule),
        reason=ends,
        details={"schedule": str(schedule)},
    )
    logger.warning("Schedule %s comes no more: %s.", schedule, ends)


def _start_one(schedule: Schedule, due_at: datetime, backlog: tuple[datetime, ...]) -> None:
    """Start one occurrence, or note why not. What was decided about it before stands."""
    if ScheduleOccurrence.objects.filter(schedule=schedule, due_at=due_at).exists():
        return
    actor = actor_of(schedule)
    why_not = _why_not(schedule, due_at, of_backlog=due_at != backlog[0])
    if why_not:
        writer.record(schedule, due_at, Outcome.SKIPPED, actor=actor, reason=why_not)
        return
    try:
        with transaction.atomic():
            run = create_run(schedule, actor=actor)
            if not writer.record(schedule, due_at, Outcome.STARTED, actor=actor, run_id=run.pk):
                raise _Decided
    except _Decided:
        return  # the run is gone with the transaction
    except Exception as error:
        if database.is_away(error):
            raise
        if not isinstance(error, AutomationError):
            logger.exception("Schedule %s could not make its run.", schedule)
        told = str(error) if isinstance(error, AutomationError) else f"{type(error).__name__}: {error}"
        logger.warning("Schedule %s made no run at %s: %s", schedule, due_at.isoformat(), told)
        writer.record(schedule, due_at, Outcome.FAILED, actor=actor, reason=told)


def create_run(schedule: Schedule, *, actor: Actor) -> AutomationRun:
    """Create a run of the schedule, and start it if the gate is open. Raises what ``creation.create`` does."""
    return creation.create(
        schedule.pipeline,
        site=schedule.site,
        actor=actor,
        params=schedule.params,
        pace=schedule.pacing,
        items=schedule.items,
        priority=schedule.priority,
    )


def lock_site(site: Site) -> None:
    """No other schedule decides about a run of ``site`` until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {Site._meta.db_table} WHERE id = %s FOR NO KEY UPDATE", [site.pk])


def unfinished_run(site: Site) -> UUID | None:
    """An unfinished run of ``site``."""
    rows = AutomationRun.objects.present().filter(site=site, lifecycle__in=[Lifecycle.RUNNING, Lifecycle.PENDING])
    return next(iter(rows.order_by().values_list("pk", flat=True)[:1]), None)


def _why_not(schedule: Schedule, due_at: datetime, *, of_backlog: bool) -> str:
    """Why an occurrence is skipped; empty if it is not. Those that are caught up together do not keep each other."""
    site = schedule.site
    closed = site.closed_at or site.account.closed_at
    if closed is not None:
        return f"site {site.slug} has been closed since {times.written(closed)}"
    if of_backlog:
        return ""
    active = unfinished_run(site) if schedule.skip_if_active else None
    if active is not None:
        return f"site {site.slug} has the unfinished run {active}"
    if schedule.hours_between:
        since = wall_clock.earlier(due_at, timedelta(hours=schedule.hours_between), schedule.rule.zone)
        rows = AutomationRun.objects.filter(site=site, pipeline=schedule.pipeline, started_at__gt=since)
        for pk, at in rows.order_by("-started_at").values_list("pk", "started_at")[:1]:
            ago = f"less than {schedule.hours_between:g} h before"
            return (
                f"run {pk} of {schedule.pipeline} started for site {site.slug} at {times.written(at or since)}, {ago}"
            )
    return ""


def run_now(pk: int, *, actor: Actor, reason: str = "", queued: bool = False) -> AutomationRun:
    """Create and start the run of a schedule at once; ``queued``: behind an unfinished run of the site.

    Raises ``SiteBusy`` if there is one and it was not asked for to wait, ``ScheduleRefused`` if there is no schedule,
    and what ``creation.create`` does. A schedule that is paused, off or over can be run so, too.
    """
    with transaction.atomic():
        schedule = locked(pk)
        if schedule is None:
            raise ScheduleRefused(f"Cannot run schedule {pk} now: it does not exist any more.")
        run = run_in_place(schedule, actor=actor, queued=queued)
        why = f"run now: {reason}" if reason else "run now"
        writer.record(schedule, database_now(), Outcome.STARTED, actor=actor, reason=why, run_id=run.pk)
    return run


def run_in_place(schedule: Schedule, *, actor: Actor, queued: bool) -> AutomationRun:
    """The run of a locked schedule, unless the site has an unfinished one and it is not to be ``queued`` behind it."""
    lock_site(schedule.site)
    active = unfinished_run(schedule.site)
    if active is not None and not queued:
        raise SiteBusy(schedule, active, schedule.site.slug)
    return create_run(schedule, actor=actor)
