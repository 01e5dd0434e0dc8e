"""The files of runs as rows: the content that each name has in a storage."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Artifact(models.Model):
    """One content that was written, or is about to be, for a name. Written by ``files.catalog``, under the fence.

    The current one is what readers of the name get. Of the others the storage is freed in time, see ``files.sweep``.
    """

    id = models.BigAutoField(primary_key=True)
    stage_run = models.ForeignKey(
        "automation.StageRun",
        on_delete=models.CASCADE,
        related_name="artifacts",
        db_index=False,
        db_constraint=False,  # its check, for each stage that goes, would read all files
    )
    name = models.CharField(max_length=400, db_collation="C")
    location = models.CharField(max_length=700, help_text="name in the storage")
    token = models.BigIntegerField(help_text="fencing token of who wrote it")
    size = models.BigIntegerField(null=True, help_text="bytes; empty until it is written")
    is_current = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    written_at = models.DateTimeField(null=True)
    replaced_at = models.DateTimeField(null=True, help_text="since when another content has its name, or none")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["stage_run", "name"], condition=Q(is_current=True), name="one_current_artifact_per_name"
            ),
            models.CheckConstraint(
                condition=Q(is_current=False) | Q(size__isnull=False, written_at__isnull=False, replaced_at=None),
                name="current_artifact_is_written",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["stage_run", "id"], condition=Q(is_current=False), name="artifact_not_current"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of stage run {self.stage_run_id}"
