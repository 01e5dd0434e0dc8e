"""Schedules of runs, and their occurrences. Written by ``schedules.writer``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from automation.models.accounts import Site, accounts_of
from automation.models.runs import AutomationRun
from pause_manager.models.recurring import Recurring

NAME = RegexValidator(r"\A[a-z0-9][a-z0-9_-]*\Z", "Expected small letters, digits, - and _.")


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    def visible_to(self, user: Any) -> ScheduleQuerySet:
        """Schedules of sites of the accounts ``user`` belongs to; all of them for a superuser."""
        return self if user.is_superuser else self.filter(site__account__in=accounts_of(user))

    def due(self) -> ScheduleQuerySet:
        """Schedules that come now, by the database's clock, and neither are off nor paused."""
        return self.filter(is_enabled=True, paused_at__isnull=True, next_due_at__lte=Now())


class Schedule(Recurring):
    """When runs of a pipeline start for a site, and with what."""

    class CatchUp(models.TextChoices):
        ALL = "all", "all: every occurrence that was missed, the newest 24 at most"
        LAST = "last", "last: the last one that was missed"
        NONE = "none", "none: what was missed stays so"

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="schedules", db_index=False)
    name = models.CharField(max_length=60, validators=[NAME], help_text="unique for the site")
    pipeline = models.CharField(max_length=50)
    params = models.JSONField(default=dict, blank=True)
    pacing = models.JSONField(
        default=dict,
        db_default=Value({}, models.JSONField()),
        blank=True,
        help_text="batches, delays and limits of its runs, where they are not those of the stages",
    )
    items = models.JSONField(
        null=True, blank=True, help_text="the input of each run; empty for a pipeline that makes its own items"
    )
    priority = models.PositiveSmallIntegerField(
        default=3, validators=[MinValueValidator(1), MaxValueValidator(5)], help_text="of its runs: 1 (first) to 5"
    )
    is_enabled = models.BooleanField(default=True)
    catch_up = models.CharField(max_length=4, choices=CatchUp.choices, default=CatchUp.LAST)
    skip_if_active = models.BooleanField(
        default=True, help_text="an occurrence is skipped while the site has an unfinished run"
    )
    min_hours_between = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="an occurrence is skipped if a run of the pipeline started for the site less long ago; empty: 23 if "
        "daily, else 0",
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="no occurrence after this; moves on by the time that it was held or paused"
    )
    expiry_counted_to = models.DateTimeField(
        null=True, editable=False, help_text="held time up to here has been added to expires_at"
    )
    next_due_at = models.DateTimeField(null=True, editable=False, help_text="empty: it does not come any more")
    paused_at = models.DateTimeField(null=True, editable=False)
    paused_by = models.CharField(max_length=160, blank=True, default="", editable=False)
    pause_reason = models.TextField(blank=True, default="", editable=False)
    paused_until = models.DateTimeField(null=True, editable=False, help_text="empty: until somebody resumes it")
    created_by = models.CharField(max_length=160, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["site", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["site", "name"],
                name="one_schedule_of_a_name",
                violation_error_message="The site has a schedule of this name.",
            ),
            models.CheckConstraint(condition=Q(priority__range=(1, 5)), name="schedule_priority_is_1_to_5"),
            models.CheckConstraint(
                condition=Q(paused_at__isnull=False) | Q(paused_by="", paused_until__isnull=True),
                name="schedule_paused_by_iff_paused",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_due_at"],
                condition=Q(is_enabled=True, paused_at__isnull=True, next_due_at__isnull=False),
                name="schedule_due",
            ),
            models.Index(fields=["paused_until"], condition=Q(paused_until__isnull=False), name="schedule_pause_ends"),
        ]

    def __str__(self) -> str:
        return f"{self.site.slug}/{self.name}"

    @property
    def scope(self) -> str:
        """The scope of its events."""
        return f"schedule:{self.pk}"

    @property
    def comes_at(self) -> datetime | None:
        """When it comes next; ``None`` if it has ended, or expires before that unless it is held meanwhile."""
        is_late = self.next_due_at and self.expires_at and self.next_due_at > self.expires_at
        return None if is_late else self.next_due_at

    @property
    def hours_between(self) -> float:
        """``min_hours_between``, or the default of its kind."""
        if self.min_hours_between is not None:
            return self.min_hours_between
        return 23.0 if self.kind == "daily" else 0.0


class ScheduleOccurrence(models.Model):
    """One time that a schedule came, or will come and was decided about before. The unique row makes it happen once."""

    class Outcome(models.TextChoices):
        STARTED = "started", "started"
        SKIPPED = "skipped", "skipped"
        PAUSED = "paused", "paused: it starts when somebody resumes it"
        MISSED = "missed", "missed: nobody was there to start it, or the schedule was paused"
        FAILED = "failed", "failed: no run could be created"

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="occurrences", db_index=False)
    due_at = models.DateTimeField()
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    # A run that is purged leaves its id here.
    run = models.ForeignKey(
        AutomationRun, on_delete=models.DO_NOTHING, null=True, related_name="occurrences", db_constraint=False
    )
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=160)
    decided_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering: ClassVar = ["-due_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["schedule", "due_at"], name="one_occurrence"),
            models.CheckConstraint(
                condition=Q(outcome="started", run__isnull=False) | (~Q(outcome="started") & Q(run__isnull=True)),
                name="occurrence_has_a_run_iff_started",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["decided_at"], name="occurrence_decided")]

    def __str__(self) -> str:
        return f"{self.due_at:%Y-%m-%d %H:%M} of schedule {self.schedule_id}"
