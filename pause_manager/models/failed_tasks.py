"""Pausable tasks that failed and that Celery does not try again."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.functions import Now


class FailedTask(models.Model):
    """A ``PausableTask`` that ended with an error, with the message that runs it again. Written by ``failed_tasks``.

    The newest ``failed_tasks.MOST_KEPT`` are kept, for ``history_days``.
    """

    task_id = models.TextField()
    task_name = models.TextField()
    queue = models.TextField()
    worker = models.TextField(help_text="Celery's name of the worker")
    turn = models.UUIDField(unique=True, help_text="the delivery that failed: it is written once")
    tries = models.PositiveIntegerField(default=1, help_text="how often it was tried, retries of Celery's included")
    error_class = models.TextField(help_text="the class of the exception; who may not see content sees this alone")
    error = models.TextField(help_text="what the exception says")
    traceback = models.TextField(blank=True)
    args_text = models.TextField(blank=True, help_text="the arguments as people read them, cut off where they are long")
    kwargs_text = models.TextField(blank=True)
    priority = models.PositiveSmallIntegerField(default=3, help_text="1 (first) to 5")
    needs = models.JSONField(default=dict, blank=True)
    uses = ArrayField(models.TextField(), default=list, blank=True)
    policy = models.CharField(max_length=100, blank=True)
    message = models.JSONField(
        null=True, blank=True, encoder=DjangoJSONEncoder, help_text="what people read of its message"
    )
    envelope = models.BinaryField(null=True, blank=True, help_text="headers, properties and address of its message")
    body = models.BinaryField(null=True, blank=True, help_text="its arguments as they were serialised; none if large")
    failed_at = models.DateTimeField(db_default=Now(), editable=False)
    retried_at = models.DateTimeField(null=True, blank=True, help_text="when a person had it run again")
    retried_by = models.TextField(blank=True, default="", db_default="")

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["failed_at"], name="failed_task_at")]

    def __str__(self) -> str:
        return f"{self.task_name}[{self.task_id}] failed: {self.error_class}"
