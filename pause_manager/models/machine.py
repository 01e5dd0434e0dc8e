"""The machines that containers with workers are on, as rows."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Machine(models.Model):
    """One boot of a machine, and its name: that of its node. Written by ``machines`` and ``containers``.

    Containers of one machine share its boot id, so they find each other here, or in Redis under the same id.
    """

    boot_id = models.CharField(max_length=300, primary_key=True)
    name = models.CharField(max_length=100, unique=True)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    contested_at = models.DateTimeField(null=True, blank=True, help_text="when another machine last asked for the name")
    contested_by = models.CharField(max_length=300, blank=True, db_default="", help_text="that machine")
    speaker = models.CharField(
        max_length=200, blank=True, db_default="", help_text="the container that speaks for it while Redis is away"
    )
    speaks_until = models.DateTimeField(null=True, blank=True)
    reports = models.JSONField(
        default=dict, db_default={}, help_text="by container: what it told last while Redis was away, and when"
    )

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(name__regex=r"^\S{1,100}$"), name="a_machine_has_a_name"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["last_seen_at"], name="machine_seen"),
            models.Index(fields=["contested_at"], condition=Q(contested_at__isnull=False), name="machine_contested"),
        ]

    def __str__(self) -> str:
        return self.name
