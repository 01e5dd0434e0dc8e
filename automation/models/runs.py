"""Runs, their stages, and the times in which a run stood still.

A run's lifecycle and times are written by ``runs.transitions``, holds by ``pause_manager.holds``, slices by ``leases``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import connection, models
from django.db.models import Exists, OuterRef, Q, Value
from django.db.models.functions import Now

from automation.models.accounts import Account, Site, accounts_of
from automation.models.work import WorkSlice
from pause_manager import scopes


class Lifecycle(models.TextChoices):
    PENDING = "pending", "pending"
    RUNNING = "running", "running"
    COMPLETED = "completed", "completed"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"


TERMINAL = (Lifecycle.COMPLETED, Lifecycle.FAILED, Lifecycle.CANCELLED)


class RunQuerySet(models.QuerySet["AutomationRun"]):
    def visible_to(self, user: Any) -> RunQuerySet:
        """Runs of the accounts ``user`` belongs to, one query for these; all of them for a superuser."""
        return self.present() if user.is_superuser else self.present().filter(account__in=accounts_of(user))

    def present(self) -> RunQuerySet:
        """Runs that are not deleted."""
        return self.filter(deleted_at__isnull=True)

    def unfinished(self) -> RunQuerySet:
        return self.filter(finished_at__isnull=True)

    def with_leases(self) -> RunQuerySet:
        """Annotate ``is_leased``: whether any slice is held by a worker, which ``status.of`` needs."""
        return self.annotate(is_leased=Exists(WorkSlice.objects.leased().filter(stage_run__run=OuterRef("pk"))))


class AutomationRun(models.Model):
    """One execution of a pipeline over one input, for one site. Written by ``transitions``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="runs", db_index=False)
    # Copied from the site by a trigger, so that an account's runs are one range of an index. The site protects it.
    account = models.ForeignKey(
        Account,
        on_delete=models.DO_NOTHING,
        null=True,
        editable=False,
        related_name="+",
        db_index=False,
        db_constraint=False,
        help_text="of its site",
    )
    pipeline = models.CharField(max_length=50)
    lane = models.CharField(
        max_length=60, editable=False, db_default="", help_text="slug of its site when it was created"
    )
    params = models.JSONField(default=dict, blank=True)
    pacing = models.JSONField(
        default=dict,
        db_default=Value({}, models.JSONField()),
        blank=True,
        help_text="batches, delays and limits that it was created with, where they are not those of its stages",
    )
    lifecycle = models.CharField(max_length=10, choices=Lifecycle.choices, default=Lifecycle.PENDING)
    created_by = models.CharField(max_length=160)
    priority = models.PositiveSmallIntegerField(default=3, help_text="1 (first) to 5")
    lane_order = models.IntegerField(
        default=0, db_default=0, editable=False, help_text="among runs of its lane and priority; moved by hand"
    )
    lane_seat_at = models.DateTimeField(
        null=True, editable=False, help_text="since when it holds a place in its lane; empty: it holds none"
    )
    timeout_seconds = models.FloatField(
        null=True, blank=True, help_text="working time after which it fails, pauses excluded; empty: no limit"
    )
    ignores_capacity = models.BooleanField(default=False, help_text="an operator forced it on: room is not asked for")
    total_items = models.PositiveIntegerField(default=0, help_text="items of the input, fixed at creation")
    failed_items = models.PositiveIntegerField(
        default=0, db_default=0, help_text="given up in all stages, counted when it completed; 0 until then"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    start_requested_at = models.DateTimeField(null=True, blank=True, help_text="starts as soon as the gate opens")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True, help_text="held since; empty while not held")
    resumed_at = models.DateTimeField(null=True, blank=True, help_text="last release")
    paused_seconds = models.FloatField(default=0, help_text="ended pauses only")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_by = models.CharField(max_length=160, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    failure = models.TextField(blank=True, help_text="why the run failed")
    retry_of = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="retried_by", editable=False
    )
    copying = models.JSONField(
        null=True,
        editable=False,
        help_text="where the copying of its items stands, while it is in progress; then the run starts",
    )
    storage = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="the mark of where its files are",
    )
    deleted_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="since then nobody sees it; its rows go in the background"
    )

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]
        permissions: ClassVar = [
            ("operate_automationrun", "Can start, pause, resume and cancel runs"),
            ("view_payloads", "Can see what items contain, their errors and files"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(lifecycle__in=TERMINAL, finished_at__isnull=False)
                | (~Q(lifecycle__in=TERMINAL) & Q(finished_at__isnull=True)),
                name="run_finished_iff_terminal",
            ),
            models.CheckConstraint(
                condition=Q(lifecycle=Lifecycle.CANCELLED, cancelled_at__isnull=False)
                | (~Q(lifecycle=Lifecycle.CANCELLED) & Q(cancelled_at__isnull=True)),
                name="run_cancelled_at_iff_cancelled",
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True) | Q(paused_at__isnull=True), name="run_terminal_is_not_paused"
            ),
            models.CheckConstraint(
                condition=Q(lane_seat_at__isnull=True) | Q(lifecycle=Lifecycle.RUNNING),
                name="run_with_a_place_is_running",
            ),
            models.CheckConstraint(condition=Q(priority__range=(1, 5)), name="run_priority_is_1_to_5"),
            models.CheckConstraint(
                condition=Q(timeout_seconds__isnull=True) | Q(timeout_seconds__gt=0), name="run_timeout_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(deleted_at__isnull=True) | Q(finished_at__isnull=False), name="run_deleted_is_final"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["site", "-created_at", "-id"], name="run_newest_of_site"),
            # Unfinished runs from a place in the list on, which may be older than all of them.
            models.Index(
                fields=["-created_at", "-id"], condition=Q(finished_at__isnull=True), name="run_unfinished_newest"
            ),
            models.Index(fields=["lifecycle"], condition=Q(finished_at__isnull=True), name="run_unfinished"),
            models.Index(
                fields=["site", "pipeline", "-started_at"],
                condition=Q(started_at__isnull=False),
                name="run_newest_started",
            ),
            # A list, newest first, of everybody's runs or of an account's, by any one filter: never a walk past others.
            *(
                models.Index(fields=[*fields, "-created_at", "-id"], condition=Q(deleted_at__isnull=True), name=name)
                for fields, name in (
                    ([], "run_newest"),
                    (["lifecycle"], "run_by_lifecycle"),
                    (["pipeline"], "run_by_pipeline"),
                    (["account"], "run_of_account"),
                    (["account", "lifecycle"], "run_of_account_by_lifecycle"),
                    (["account", "pipeline"], "run_of_account_by_pipeline"),
                    (["site", "lifecycle"], "run_of_site_by_lifecycle"),
                )
            ),
            *(
                models.Index(
                    fields=[*fields, "-created_at", "-id"],
                    condition=Q(deleted_at__isnull=True, lifecycle=Lifecycle.COMPLETED, failed_items__gt=0),
                    name=name,
                )
                for fields, name in (([], "run_with_failures"), (["account"], "run_of_account_with_failures"))
            ),
            models.Index(
                fields=["site", "pipeline", "finished_at"],
                condition=Q(finished_at__isnull=False, deleted_at__isnull=True),
                name="run_ended",
            ),
            models.Index(fields=["deleted_at"], condition=Q(deleted_at__isnull=False), name="run_deleted"),
            models.Index(fields=["lane"], condition=Q(lane_seat_at__isnull=False), name="run_with_a_place"),
            models.Index(fields=["lane"], condition=Q(finished_at__isnull=True), name="run_unfinished_in_lane"),
            models.Index(
                fields=["lane", "paused_at"],
                condition=Q(finished_at__isnull=True, paused_at__isnull=False),
                name="run_paused_in_lane",
            ),
            # In the order of the lane, see ``gate.lane_order``.
            models.Index(
                fields=["lane", "priority", "lane_order", "created_at", "id"],
                condition=Q(
                    finished_at__isnull=True,
                    lane_seat_at__isnull=True,
                    start_requested_at__isnull=False,
                    cancel_requested_at__isnull=True,
                ),
                name="run_waiting_in_lane",
            ),
            models.Index(fields=["created_at"], condition=Q(copying__isnull=False), name="run_copying"),
        ]

    def __str__(self) -> str:
        return f"{self.pipeline} {self.id}"

    @property
    def scope(self) -> str:
        """The scope of holds and events that mean this run alone."""
        return scopes.run(self.pk)


class StageRunQuerySet(models.QuerySet["StageRun"]):
    def undefined(self) -> StageRunQuerySet:
        """Stages of runs that an earlier release created and this one has not defined yet."""
        return self.filter(definition__isnull=True, position__gte=0)

    def current(self) -> StageRunQuerySet:
        """Running stages, the first of a run that has not started, and undefined ones."""
        has_not_started = models.Q(run__lifecycle="pending", position=0)
        is_undefined = models.Q(definition__isnull=True, position__gte=0)
        return self.filter(models.Q(lifecycle="running") | has_not_started | is_undefined).order_by("run", "position")


class StageRun(models.Model):
    """One step of one run. The row at position -1 has slug ``input`` and stands for the run's input.

    ``lifecycle`` is ``pending``, ``running`` or ``completed``; ``total_items`` is fixed when its slices are cut.
    ``definition`` is written by ``stage_rows``, see ``definition.Definition``.
    """

    run = models.ForeignKey(AutomationRun, on_delete=models.CASCADE, related_name="stages")
    slug = models.CharField(max_length=50)
    position = models.SmallIntegerField()
    lifecycle = models.CharField(max_length=10, choices=Lifecycle.choices, default=Lifecycle.PENDING)
    total_items = models.PositiveIntegerField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    paused_seconds_at_start = models.FloatField(default=0)
    paused_seconds_at_end = models.FloatField(default=0)
    loop_failures = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="loops that failed one after the other without any progress"
    )
    loop_error = models.TextField(blank=True, default="", db_default="", help_text="of the last of them")
    loop_retry_at = models.DateTimeField(null=True, blank=True, help_text="no loop is sent for before this time")
    turn_at = models.DateTimeField(null=True, blank=True, help_text="when a worker last came for it, see turns")
    begins_at = models.DateTimeField(
        null=True, blank=True, help_text="none of its items begins before, as it waits between stages"
    )
    batch_id = models.BigIntegerField(
        null=True, editable=False, help_text="the slice that was handed out last, where batches are apart"
    )
    left_out = models.PositiveIntegerField(
        default=0, db_default=0, help_text="items beyond its max_items, which it does not do"
    )
    definition = models.JSONField(
        null=True,
        editable=False,
        help_text="as its pipeline declared it when the run was created; {} if the run ended before this was kept",
    )

    objects = StageRunQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["run", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "position"], name="one_stage_per_position"),
            models.UniqueConstraint(fields=["run", "slug"], name="one_stage_per_slug"),
            models.CheckConstraint(
                condition=Q(lifecycle=Lifecycle.COMPLETED, finished_at__isnull=False)
                | (~Q(lifecycle=Lifecycle.COMPLETED) & Q(finished_at__isnull=True)),
                name="stage_finished_iff_completed",
            ),
            models.CheckConstraint(
                condition=Q(lifecycle=Lifecycle.PENDING, total_items__isnull=True)
                | (~Q(lifecycle=Lifecycle.PENDING) & Q(total_items__isnull=False)),
                name="stage_total_fixed_at_start",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run"], condition=Q(lifecycle=Lifecycle.RUNNING), name="stage_running"),
            models.Index(fields=["slug", "-finished_at"], name="stage_newest"),
            models.Index(fields=["run"], condition=Q(definition__isnull=True, position__gte=0), name="stage_undefined"),
            models.Index(fields=["run"], condition=Q(loop_failures__gt=0), name="stage_failing"),
        ]

    def __str__(self) -> str:
        return f"{self.slug} of {self.run_id}"


class Standstill(models.Model):
    """A period in which nothing of a run could be worked on though no hold stopped it. Written by ``standstills``."""

    run = models.ForeignKey(AutomationRun, on_delete=models.CASCADE, related_name="standstills")
    code = models.CharField(max_length=20, help_text="the reason, as the gate names it")
    since = models.DateTimeField(db_default=Now())
    until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["run", "since"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "code"], condition=Q(until__isnull=True), name="one_standstill")
        ]

    def __str__(self) -> str:
        return f"{self.code} of {self.run_id}"


def lock_runs(run_ids: Sequence[str]) -> None:
    """Lock the rows of ``run_ids``, in order, until the transaction ends.

    Waits for claims in progress, which share the rows, and makes later ones see what is committed here. Everything that
    changes a run or its holds takes this lock first, so that no two of them wait for each other.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT 1 FROM {AutomationRun._meta.db_table} WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE",
            [list(map(str, run_ids))],
        )
