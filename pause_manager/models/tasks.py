"""Running pausable tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from pause_manager.models.queue import PauseQueueEntry
from pause_manager.times import KEEPS_PLACE_SECONDS


class RunningTaskQuerySet(models.QuerySet["RunningTask"]):
    def with_age(self) -> RunningTaskQuerySet:
        """Annotates ``unseen``, the time since its process last said that it runs, and ``keeps_place``: whether it was
        lost so lately that it keeps its place. By the database's clock."""
        return self.annotate(
            unseen=models.ExpressionWrapper(Now() - F("heartbeat_at"), models.DurationField()),
            keeps_place=models.Q(lost_at__gt=Now() - timedelta(seconds=KEEPS_PLACE_SECONDS)),
        )

    def at_work(self) -> RunningTaskQuerySet:
        """Those that are not known to be lost."""
        return self.filter(lost_at__isnull=True)

    def out_of_place(self) -> RunningTaskQuerySet:
        """Those that were lost so long ago that they keep no place any more."""
        return self.filter(lost_at__lte=Now() - timedelta(seconds=KEEPS_PLACE_SECONDS))


class RunningTask(models.Model):
    """A running ``PausableTask``. Its process keeps ``heartbeat_at`` fresh. Written by ``running_tasks``.

    The row of one whose worker was lost has no turn: for half a minute it stands for the room that it had.
    """

    task_id = models.TextField()
    task_name = models.TextField()
    queue = models.TextField()
    node = models.TextField()
    worker = models.TextField(help_text="Celery's name of the worker")
    owner = models.CharField(max_length=200, help_text="the main process of the worker, told apart from any other")
    turn = models.UUIDField(unique=True, null=True, help_text="the delivery that wrote the row: a repeat finds it")
    acks_late = models.BooleanField(help_text="whether it is run again if its worker is lost")
    needs = models.JSONField(null=True, blank=True)
    gpus = models.JSONField(default=list, blank=True)
    uses = ArrayField(
        models.TextField(), default=list, db_default=[], blank=True, help_text="the resources outside that it uses"
    )
    priority = models.PositiveSmallIntegerField(default=3, db_default=3, help_text="1 (first) to 5, of its delivery")
    polls_for_stop = models.BooleanField(
        default=False, db_default=False, help_text="whether it has asked if it should stop"
    )
    stop_reason = models.TextField(blank=True, default="", db_default="", help_text="why it is to leave, if it is")
    entry = models.ForeignKey(PauseQueueEntry, on_delete=models.SET_NULL, null=True, blank=True, related_name="running")
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    lost_at = models.DateTimeField(
        null=True, blank=True, help_text="when its worker was found lost; it keeps its place on the node for a while"
    )
    heartbeat_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = RunningTaskQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [
            models.Index(fields=["task_id"], name="running_by_task"),
            models.Index(fields=["lost_at"], condition=Q(lost_at__isnull=False), name="running_lost"),
        ]

    def __str__(self) -> str:
        return f"{self.task_name}[{self.task_id}] on {self.worker}"
