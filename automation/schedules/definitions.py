"""What people do with schedules: create, change, delete, pause, resume, and decide about single occurrences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction

from automation import conf
from automation.errors import InvalidSchedule, ScheduleRefused
from automation.models import AutomationRun, Schedule, ScheduleOccurrence, Site
from automation.pipeline import get_pipeline, pacing, run_input
from automation.schedules import held_time, starting, writer
from pause_manager import times
from pause_manager.actor import Actor
from pause_manager.models.clock import database_now
from pause_manager.observability import audit

Outcome = ScheduleOccurrence.Outcome

FIELDS = (
    *("name", "pipeline", *Schedule.RULE, "params", "pacing", "items", "priority", "is_enabled", "catch_up"),
    *("skip_if_active", "min_hours_between", "expires_at"),
)
"""What a person sets."""
MOST_HOURS_BETWEEN = 366 * 24
_LONGEST = timedelta(days=36_525)
_MOMENT = timedelta(microseconds=1)


def create(site: Site, fields: Mapping[str, Any], *, actor: Actor, reason: str = "") -> Schedule:
    """Create a schedule of ``site`` from ``fields``, some of ``FIELDS``.

    Raises :class:`InvalidSchedule`, ``UnknownPipeline``, ``InvalidParams`` or ``InvalidInput``, each naming what was
    wrong.
    """
    now = database_now()
    schedule = Schedule(site=site, created_by=actor.name, anchor=_minute(now), **fields)
    check(schedule, now)
    closed = site.closed_at or site.account.closed_at
    if closed is not None:
        raise InvalidSchedule(f"Cannot save the schedule: site {site.slug} is closed since {times.written(closed)}.")
    schedule.next_due_at = _next(schedule, now)
    with _unique_name(), transaction.atomic():
        writer.insert(schedule)
        audit.record(
            "schedule_created", scope=schedule.scope, actor=actor, reason=reason, after=facts(schedule, FIELDS)
        )
    return schedule


def change(pk: int, fields: Mapping[str, Any], *, actor: Actor, reason: str = "") -> Schedule:
    """Change a schedule. Its next time is reckoned from now if its rule changes, or it is switched on.

    Raises what :func:`create` does, and :class:`ScheduleRefused` if it does not exist any more.
    """
    with _unique_name(), transaction.atomic():
        schedule = _locked("change", pk)
        now = database_now()
        changed = [name for name in FIELDS if name in fields and fields[name] != getattr(schedule, name)]
        before = facts(schedule, changed)
        for name in changed:
            setattr(schedule, name, fields[name])
        check(schedule, now, expiry_is_new="expires_at" in changed)
        names = list(changed)
        if "expires_at" in changed:
            schedule.expiry_counted_to = now
            names.append("expiry_counted_to")
        if {"kind", "every_minutes"} & set(changed):
            schedule.anchor = _minute(now)
            names.append("anchor")
        if {*Schedule.RULE, "expires_at", "is_enabled"} & set(changed):
            schedule.next_due_at = _next(schedule, now)
            names.append("next_due_at")
        if changed:
            writer.change(schedule, names)
            after = facts(schedule, changed)
            audit.record(
                "schedule_changed", scope=schedule.scope, actor=actor, reason=reason, before=before, after=after
            )
    return schedule


def delete(pk: int, *, actor: Actor, reason: str = "") -> None:
    """Delete a schedule and its occurrences; its runs stay. Raises :class:`ScheduleRefused`."""
    with transaction.atomic():
        schedule = _locked("delete", pk)
        audit.record(
            "schedule_deleted", scope=schedule.scope, actor=actor, reason=reason, before=facts(schedule, FIELDS)
        )
        writer.delete(schedule)


def pause(pk: int, *, actor: Actor, reason: str = "", until: datetime | None = None) -> Schedule:
    """Pause a schedule, until a time or until somebody resumes it. Raises :class:`ScheduleRefused`."""
    with transaction.atomic():
        schedule = _locked("pause", pk)
        if until is not None and until <= database_now():
            raise ScheduleRefused(f"Cannot pause schedule {schedule}: expected a time to come, got: {_iso(until)}.")
        if not writer.pause(schedule, by=actor.name, reason=reason, until=until):
            raise ScheduleRefused(f"Cannot pause schedule {schedule}: it is paused by {schedule.paused_by}.")
        audit.record(
            "schedule_paused",
            scope=schedule.scope,
            actor=actor,
            reason=reason,
            details={"schedule": str(schedule), "until": until and _iso(until)},
        )
    schedule.refresh_from_db()
    return schedule


def resume(pk: int, *, actor: Actor, reason: str = "") -> Schedule:
    """Resume a paused schedule: ``catch_up`` decides about what it missed. Raises :class:`ScheduleRefused`."""
    with transaction.atomic():
        schedule = _locked("resume", pk)
        if schedule.paused_at is None or not writer.resume(schedule):
            raise ScheduleRefused(f"Cannot resume schedule {schedule}: it is not paused.")
        held_time.extend_expiry(schedule, database_now(), schedule.paused_at)
        audit.record(
            "schedule_resumed",
            scope=schedule.scope,
            actor=actor,
            reason=reason,
            details={"schedule": str(schedule)},
        )
    schedule.refresh_from_db()
    return schedule


def skip(pk: int, due_at: datetime | None = None, *, actor: Actor, reason: str = "") -> datetime:
    """Skip the occurrence of ``due_at``, else the next one; returns its time. Raises :class:`ScheduleRefused`."""
    return _decide("skip", pk, due_at, Outcome.SKIPPED, actor, reason)


def pause_occurrence(pk: int, due_at: datetime | None = None, *, actor: Actor, reason: str = "") -> datetime:
    """Keep the occurrence of ``due_at``, else the next one, from starting until it is resumed; returns its time."""
    return _decide("pause", pk, due_at, Outcome.PAUSED, actor, reason)


def _decide(verb: str, pk: int, due_at: datetime | None, outcome: str, actor: Actor, reason: str) -> datetime:
    with transaction.atomic():
        schedule = _locked(verb, pk)
        now = database_now()
        if due_at is None:
            due_at = _next_undecided(verb, schedule, now)
        if outcome == Outcome.SKIPPED and writer.decide(schedule, due_at, outcome, actor=actor, reason=reason):
            return due_at
        _check_occurrence(verb, schedule, due_at, now)
        if not writer.record(schedule, due_at, outcome, actor=actor, reason=reason):
            was = ScheduleOccurrence.objects.get(schedule=schedule, due_at=due_at)
            raise ScheduleRefused(f"Cannot {verb} {_iso(due_at)} of schedule {schedule}: it is {was.outcome} already.")
    return due_at


def resume_occurrence(
    pk: int, due_at: datetime, *, actor: Actor, reason: str = "", queued: bool = False
) -> AutomationRun | None:
    """Let an occurrence that was skipped or paused come after all; one whose time has passed starts now.

    Returns the run if one was started. Raises :class:`ScheduleRefused`, and what :func:`starting.run_now` does.
    """
    with transaction.atomic():
        schedule = _locked("resume", pk)
        if writer.undo(schedule, due_at, actor=actor, reason=reason):
            return None
        was = ScheduleOccurrence.objects.filter(schedule=schedule, due_at=due_at).first()
        if was is None or was.outcome != Outcome.PAUSED:
            fact = f"is {was.outcome}" if was else "was neither skipped nor paused"
            raise ScheduleRefused(f"Cannot resume {_iso(due_at)} of schedule {schedule}: it {fact}.")
        run = starting.run_in_place(schedule, actor=actor, queued=queued)
        writer.decide(schedule, due_at, Outcome.STARTED, actor=actor, reason=reason, run_id=run.pk)
    return run


def check(schedule: Schedule, now: datetime, *, expiry_is_new: bool = True) -> None:
    """Raise :class:`InvalidSchedule`, or what a run would raise, if its runs could not be created as it stands."""
    try:
        schedule.full_clean(exclude=["site", "anchor", "created_by", "next_due_at"])
    except ValidationError as error:
        raise InvalidSchedule(f"Cannot save the schedule: {_sentence(error)}") from None
    if expiry_is_new and schedule.expires_at is not None and schedule.expires_at <= now:
        raise InvalidSchedule(
            f"Cannot save the schedule: expires_at: expected a time to come, got: {_iso(schedule.expires_at)}."
        )
    if schedule.expires_at is not None and schedule.expires_at > now + _LONGEST:
        raise InvalidSchedule("Cannot save the schedule: expires_at: expected at most 100 years from now.")
    hours = schedule.min_hours_between
    if hours is not None and not 0 <= hours <= MOST_HOURS_BETWEEN:
        rule = f"expected 0 to {MOST_HOURS_BETWEEN:,} hours, got: {hours}"
        raise InvalidSchedule(f"Cannot save the schedule: min_hours_between: {rule}.")
    check_input(schedule)


def check_input(schedule: Schedule) -> None:
    """Raise what a run with its pipeline, parameters, pacing and items would raise; fills in defaults of parameters."""
    pipeline = get_pipeline(schedule.pipeline)
    schedule.params = pipeline.clean_params(schedule.params or {})
    schedule.pacing = pacing.clean(pipeline, schedule.pacing or {})
    run_input.check_need(pipeline, is_given=schedule.items is not None)
    if schedule.items is None:
        return
    most = most_items()
    if not isinstance(schedule.items, list) or not 1 <= len(schedule.items) <= most:
        raise InvalidSchedule(f"Cannot save the schedule: items: expected a list of 1 to {most:,} objects.")
    run_input.of_records(pipeline, schedule.items)


def most_items() -> int:
    """Most items that a schedule stores."""
    return conf.settings().max_schedule_items


def facts(schedule: Schedule, names: Any) -> dict[str, Any]:
    """What events record of ``names``; of items only how many."""
    told = {name: getattr(schedule, name) for name in names}
    if told.get("items") is not None:
        told["items"] = len(told["items"])
    return {name: str(value) if hasattr(value, "isoformat") else value for name, value in told.items()}


def _next(schedule: Schedule, now: datetime) -> datetime | None:
    if schedule.expires_at is not None and schedule.expires_at <= now:
        return None
    # It may be later than the expiry, which held time moves on: that is judged when its time has come.
    return schedule.rule.next(now)


def _locked(verb: str, pk: int) -> Schedule:
    schedule = starting.locked(pk)
    if schedule is None:
        raise ScheduleRefused(f"Cannot {verb} schedule {pk}: it does not exist any more.")
    return schedule


def _next_undecided(verb: str, schedule: Schedule, now: datetime) -> datetime:
    coming = ScheduleOccurrence.objects.filter(schedule=schedule, due_at__gt=now)
    decided = set(coming.values_list("due_at", flat=True))
    for at in schedule.rule.times(now):
        if schedule.next_due_at is None or (schedule.expires_at is not None and at > schedule.expires_at):
            break
        if at not in decided:
            return at
    raise ScheduleRefused(f"Cannot {verb} an occurrence of schedule {schedule}: it comes no more.")


def _check_occurrence(verb: str, schedule: Schedule, due_at: datetime, now: datetime) -> None:
    is_near = now < due_at < now + _LONGEST
    if not is_near or next(schedule.rule.times(due_at - _MOMENT), None) != due_at:
        coming = ", ".join(_iso(at) for at in schedule.rule.take(now, 3)) or "none"
        rule = f"expected a time at which it will come, such as {coming}"
        raise ScheduleRefused(f"Cannot {verb} {_iso(due_at)} of schedule {schedule}: {rule}.")


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _sentence(error: ValidationError) -> str:
    told = error.message_dict
    field = next(iter(told))
    return told[field][0] if field == NON_FIELD_ERRORS else f"{field}: {told[field][0]}"


@contextmanager
def _unique_name() -> Iterator[None]:
    """Two callers at once may take the same name: the second is told so."""
    try:
        yield
    except IntegrityError as error:
        if "one_schedule_of_a_name" not in str(error):
            raise
        raise InvalidSchedule("Cannot save the schedule: The site has a schedule of this name.") from None
