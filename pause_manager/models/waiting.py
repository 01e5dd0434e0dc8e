"""How much waited for what, minute by minute."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class WaitingSample(models.Model):
    """How much of ``work`` waited for ``reason`` in a minute. Written by ``observability.waiting``.

    Each minute that was looked at has a row of work and reason ``all``, 0 if nothing waited: one without was missed.
    """

    minute = models.DateTimeField()
    work = models.CharField(max_length=20, help_text="runs or tasks")
    reason = models.CharField(max_length=40, help_text="as the gate names it")
    count = models.PositiveIntegerField()

    class Meta:
        ordering: ClassVar = ["-minute", "work", "reason"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["minute", "work", "reason"], name="one_waiting_sample_a_minute")
        ]

    def __str__(self) -> str:
        return f"{self.count} {self.work} for {self.reason}"
