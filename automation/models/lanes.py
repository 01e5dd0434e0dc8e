"""Lanes, in which runs wait for each other, and the dependencies between runs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now

from automation.models.accounts import Site, accounts_of
from automation.models.runs import AutomationRun

MOST_WIDTH = 10_000
"""Runs of one lane at a time, at most."""


class LaneQuerySet(models.QuerySet["Lane"]):
    def visible_to(self, user: Any) -> LaneQuerySet:
        """Lanes of sites whose accounts ``user`` belongs to; all of them for a superuser."""
        if user.is_superuser:
            return self
        return self.filter(name__in=Site.objects.filter(account__in=accounts_of(user)).values("slug"))


class Lane(models.Model):
    """A queue of runs of which ``width`` are active at a time. Written by ``runs.lanes``.

    ``name`` is what ``AutomationRun.lane`` contains. A lane without a row is strict and one run wide.
    """

    class Policy(models.TextChoices):
        STRICT = "strict", "strict: a paused run keeps its place, and those behind it wait"
        SKIP_PARKED = "skip_parked", "skip parked: a paused run leaves its place to the next"

    name = models.CharField(max_length=60, unique=True)
    policy = models.CharField(max_length=12, choices=Policy.choices, default=Policy.STRICT, db_default=Policy.STRICT)
    width = models.PositiveSmallIntegerField(
        default=1,
        db_default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_WIDTH)],
        help_text="runs at a time",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = LaneQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(width__range=(1, MOST_WIDTH)), name="lane_width_is_at_least_1"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def scope(self) -> str:
        """The scope of holds and events that mean this lane."""
        return f"lane:{self.name}"


class RunDependency(models.Model):
    """``run`` does not start before ``after`` has completed. Written by ``runs.dependency_rows``.

    It is met once ``satisfied_at`` is set, in the transaction that completes ``after``, or once somebody released it.
    The row outlives the row of ``after``: a dependency on a run that was deleted unfinished stays until it is decided.
    """

    run = models.ForeignKey(AutomationRun, on_delete=models.CASCADE, related_name="dependencies", db_index=False)
    after = models.ForeignKey(
        AutomationRun,
        on_delete=models.DO_NOTHING,
        related_name="dependents",
        db_index=False,
        db_constraint=False,
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    satisfied_at = models.DateTimeField(null=True, editable=False)
    released_at = models.DateTimeField(null=True, editable=False)
    released_by = models.CharField(max_length=160, blank=True, default="", db_default="")
    release_reason = models.TextField(blank=True, default="", db_default="")

    class Meta:
        ordering: ClassVar = ["run", "created_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "after"], name="one_dependency"),
            models.CheckConstraint(condition=~Q(run=models.F("after")), name="no_run_waits_for_itself"),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True) | ~Q(released_by=""), name="dependency_release_names_its_actor"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["run"],
                condition=Q(satisfied_at__isnull=True, released_at__isnull=True),
                name="dependency_unmet",
            ),
            models.Index(
                fields=["after"],
                condition=Q(satisfied_at__isnull=True, released_at__isnull=True),
                name="dependency_awaited",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} after {self.after_id}"


def lock_lane(name: str) -> None:
    """Take the lane until the transaction ends: places in it are given, and its order changed, by one at a time.

    It is taken before the row of any run that others can see.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('slackwater lane'), hashtext(%s))", [name])


def lock_dependencies() -> None:
    """Take all dependencies until the transaction ends: they are added by one at a time. Before the lock of a lane."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('slackwater dependencies'))")
