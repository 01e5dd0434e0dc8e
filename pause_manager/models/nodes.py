"""Nodes, and the minutes of their history."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class WorkerNodeQuerySet(models.QuerySet["WorkerNode"]):
    def with_age(self) -> WorkerNodeQuerySet:
        """Annotates ``db_now`` and ``age``, the time since the node was last seen, both by the database's clock."""
        return self.annotate(
            db_now=Now(), age=models.ExpressionWrapper(Now() - F("last_seen_at"), models.DurationField())
        )

    def seen_within(self, period: timedelta) -> WorkerNodeQuerySet:
        """Nodes seen in the last ``period``."""
        return self.filter(last_seen_at__gte=Now() - period)


class WorkerNode(models.Model):
    """A machine with workers, as it was last seen. Live samples are in Redis. Written by ``nodes``."""

    name = models.CharField(max_length=255, unique=True)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    sample = models.JSONField(help_text="The last sample that was kept here")
    policy_state = models.JSONField(default=dict, db_default={}, help_text="What the policy remembers of the node")
    is_consuming = models.BooleanField(db_default=True, help_text="No: it is saturated and takes no new work")
    pause_below = models.FloatField(
        null=True, blank=True, help_text="The node's own threshold, 0 to 1; empty: that of the settings"
    )

    objects = WorkerNodeQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(pause_below__isnull=True) | Q(pause_below__gte=0, pause_below__lte=1),
                name="a_threshold_is_a_share",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["-last_seen_at"], name="node_seen")]

    def __str__(self) -> str:
        return self.name


class CapacitySample(models.Model):
    """One minute of one node. Written by ``nodes``, kept for ``history_days``."""

    node = models.ForeignKey(WorkerNode, on_delete=models.CASCADE, related_name="history")
    minute = models.DateTimeField()
    samples = models.PositiveSmallIntegerField(help_text="How many samples it is made of")
    cores = models.FloatField()
    foreign_cores = models.FloatField(help_text="Mean")
    foreign_cores_max = models.FloatField()
    own_cores = models.FloatField(help_text="Mean")
    memory_mib = models.PositiveBigIntegerField()
    free_memory_mib_min = models.PositiveBigIntegerField()
    gpus = models.JSONField(default=list, blank=True, help_text="Per GPU: least free MiB, mean utilisation, problems")

    class Meta:
        ordering: ClassVar = ["-minute"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["node", "minute"], name="one_sample_a_minute")]
        indexes: ClassVar = [models.Index(fields=["minute"], name="sample_age")]

    def __str__(self) -> str:
        return f"{self.node} at {self.minute:%Y-%m-%d %H:%M}"
