"""Time in which a schedule was held: its expiry moves on by it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Q

from automation.models import Schedule
from automation.schedules import writer
from pause_manager.models import Hold

Period = tuple[datetime, datetime]


def extend_expiry(schedule: Schedule, now: datetime, paused_since: datetime | None = None) -> None:
    """Add to ``expires_at`` the time since it was last counted in which the schedule was paused, or held.

    Held: by a hold on the fleet, its pipeline or its site's lane. ``paused_since``: its pause ends now.
    """
    while schedule.expires_at is not None:
        expires_at = schedule.expires_at
        since = schedule.expiry_counted_to or schedule.created_at
        # What is held after it has expired does not bring it back.
        until = min(now, expires_at) if paused_since is None or expires_at < paused_since else now
        held = list(_holds(schedule, since, until))
        if paused_since is not None:
            held.append((paused_since, now))
        added = covered(held, since, until)
        if added:
            writer.extend(schedule, expires_at + added, until)
        if not added or until == now:
            return


def covered(periods: Iterable[Period], since: datetime, until: datetime) -> timedelta:
    """The time between ``since`` and ``until`` that ``periods`` cover; where they overlap it counts once."""
    total, reached = timedelta(0), since
    for start, end in sorted(periods):
        start, end = max(start, reached), min(end, until)
        if end > start:
            total += end - start
            reached = end
    return total


def _holds(schedule: Schedule, since: datetime, now: datetime) -> Iterable[Period]:
    scopes = ["fleet", f"pipeline:{schedule.pipeline}", f"lane:{schedule.site.slug}"]
    rows = Hold.objects.filter(Q(released_at__isnull=True) | Q(released_at__gt=since), scope__in=scopes)
    for start, end in rows.values_list("created_at", "released_at"):
        yield start, end or now
