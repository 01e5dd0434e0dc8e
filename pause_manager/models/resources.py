"""Resources outside that work uses: what is known of each, and how much of it may be used at once."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Resource(models.Model):
    """A resource that somebody has limited, or that has said "too much". Written by ``resources.writer``.

    One without a row is open and has no limit.
    """

    class State(models.TextChoices):
        OPEN = "open", "open"
        HELD = "held", "held: it said “too much”"
        PROBING = "probing", "probing: one loop or task asks it again"
        RAMPING = "ramping", "ramping: it answers again, and more ask it step by step"

    name = models.CharField(max_length=64, unique=True)
    max_at_once = models.PositiveIntegerField(
        null=True, blank=True, help_text="items and tasks that use it at once; empty: no limit"
    )
    max_per_minute = models.PositiveIntegerField(
        null=True, blank=True, help_text="items and tasks that start in any 60 s; empty: no limit"
    )
    next_start_at = models.DateTimeField(null=True, blank=True, help_text="by max_per_minute nothing starts before")
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN, db_default=State.OPEN)
    throttled_at = models.DateTimeField(null=True, blank=True, help_text="when it said “too much” last")
    throttled_by = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="the stage or task that it told so"
    )
    wait_seconds = models.FloatField(default=0, db_default=0, help_text="for how long it was let alone then")
    next_probe_at = models.DateTimeField(null=True, blank=True, help_text="when it is asked again")
    strikes = models.PositiveIntegerField(
        default=0, db_default=0, help_text="how often in a row it has said so, when it was asked again"
    )
    probing_since = models.DateTimeField(null=True, blank=True)
    ramping_since = models.DateTimeField(null=True, blank=True)
    at_work = models.PositiveIntegerField(
        default=0, db_default=0, help_text="how many used it when it said “too much”: the ramp ends there"
    )
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(max_at_once__isnull=True) | Q(max_at_once__gte=1), name="max_at_once_is_1_or_more"
            ),
            models.CheckConstraint(
                condition=Q(max_per_minute__isnull=True) | Q(max_per_minute__gte=1), name="max_per_minute_is_1_or_more"
            ),
            models.CheckConstraint(
                condition=Q(state="open")
                | Q(state="held", next_probe_at__isnull=False)
                | Q(state="probing", probing_since__isnull=False)
                | Q(state="ramping", ramping_since__isnull=False),
                name="a_state_of_a_resource_has_its_time",
            ),
        ]

    def __str__(self) -> str:
        return f"resource {self.name} ({self.state})"
