"""The fleet switch and the workers that obey it, as rows."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now

OPERATE = "pause_manager.operate_fleet"
"""The permission to pause and resume the fleet, and to place and release holds."""


class ControlState(models.Model):
    """The one row that says whether the fleet is paused. Written by ``fleet``, with the operator's hold on ``fleet``.

    ``version`` rises by one with each accepted change: workers acknowledge the version they obey.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    version = models.PositiveBigIntegerField(default=1)
    revision = models.PositiveBigIntegerField(
        default=1, db_default=1, help_text="rises with each change of a hold on the fleet, a queue or a node"
    )
    watches_capacity = models.BooleanField(
        default=True, db_default=True, help_text="whether room is asked for before work starts; written by watching"
    )
    is_paused = models.BooleanField(default=False)
    mode = models.CharField(max_length=10, blank=True, help_text="drain or quiesce; empty while not paused")
    mode_since = models.DateTimeField(null=True, blank=True, help_text="since when this mode has been in force")
    reason = models.TextField(blank=True)
    requested_by = models.CharField(max_length=160, blank=True, help_text="the actor of the last change")
    requested_by_user_id = models.CharField(max_length=64, blank=True, help_text="empty if no signed-in user asked")
    requested_at = models.DateTimeField(null=True, blank=True, help_text="when a person last asked for a change")
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        permissions: ClassVar = [("operate_fleet", "Can pause and resume the fleet, and place and release holds")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(id=1), name="one_control_state"),
            models.CheckConstraint(condition=Q(version__gte=1), name="control_version_counts_from_1"),
            models.CheckConstraint(
                condition=Q(is_paused=True, mode__in=["drain", "quiesce"]) | Q(is_paused=False, mode=""),
                name="control_mode_iff_paused",
            ),
        ]

    def __str__(self) -> str:
        return f"fleet {f'paused ({self.mode})' if self.is_paused else 'running'}, version {self.version}"


class FleetWorkerQuerySet(models.QuerySet["FleetWorker"]):
    def with_age(self) -> FleetWorkerQuerySet:
        """Annotates ``unseen``, the time since its last report, by the database's clock."""
        return self.annotate(unseen=models.ExpressionWrapper(Now() - F("last_seen_at"), models.DurationField()))


class FleetWorker(models.Model):
    """A Celery worker as it last reported: what it obeys, serves and has in hand. Written by ``acknowledgements``."""

    # Two workers may have been given one name: neither hides what the other has in hand. Workers of the release before
    # write their name alone, and rely on its column being unique.
    key = models.CharField(
        max_length=500, unique=True, db_column="name", help_text="its name, and in a line of its own its main process"
    )
    name = models.GeneratedField(
        expression=Func(F("key"), Value("\n"), Value(1), function="split_part"),
        output_field=models.CharField(max_length=255),
        db_persist=True,
        db_column="worker_name",
        help_text="Celery's name of the worker",
    )
    node = models.CharField(max_length=255)
    boot_id = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="of its machine; empty: of an older release"
    )
    wanted_node = models.CharField(
        max_length=100, blank=True, default="", db_default="", help_text="the name that it wants its machine to have"
    )
    serves = models.JSONField(default=list, db_default=[], help_text="the queues it serves, held or not")
    owner = models.CharField(
        max_length=200, default="", db_default="", help_text="its main process, told apart from any other"
    )
    revision = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="of the holds that it obeys; see ControlState"
    )
    in_hand = models.JSONField(
        default=dict, db_default={}, help_text="by queue: [running, received and neither started nor given back]"
    )
    tasks = models.JSONField(default=list, db_default=[], help_text="the oldest tasks running in it")
    task_names = models.JSONField(default=list, db_default=[], help_text="the tasks that it knows")
    pipelines = models.JSONField(null=True, help_text="the pipelines that it has in its code; null: it does not tell")
    places = models.PositiveIntegerField(null=True, help_text="how many tasks it works on at a time")
    visible_gpus = models.JSONField(null=True, help_text="the UUIDs of the GPUs that it may use; null: all of its node")
    files = models.JSONField(null=True, help_text="where it keeps files, see storage_report; null: it does not tell")
    clock_offset = models.FloatField(null=True, help_text="seconds by which the database's clock is ahead of its own")
    acknowledged_version = models.PositiveBigIntegerField(default=0)
    acknowledged_at = models.DateTimeField(db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = FleetWorkerQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return f"{self.name} obeys version {self.acknowledged_version}"
