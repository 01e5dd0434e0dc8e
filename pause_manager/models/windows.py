"""Pause windows: when something is held again and again. Written by ``holds.windows``."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from pause_manager.models.holds import SCOPE, SCOPES, Hold
from pause_manager.models.recurring import Recurring
from pause_manager.scopes import RUNS

NAME = RegexValidator(r"\A[a-z0-9][a-z0-9_-]*\Z", "Expected small letters, digits, - and _.")
LONGEST_MINUTES = 7 * 24 * 60


class PauseWindow(Recurring):
    """A scope that is held from each occurrence of a rule for a time, by a hold of the kind ``window``."""

    name = models.CharField(max_length=60, unique=True, validators=[NAME])
    scope = models.CharField(max_length=120, help_text="fleet, queue:x, pipeline:x, lane:x, node:x or resource:x")
    mode = models.CharField(max_length=10, choices=Hold.Mode.choices, default=Hold.Mode.DRAIN)
    duration_minutes = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_MINUTES)],
        help_text="on the wall clock of its zone: 22:00 and 480 is 06:00; a week at most",
    )
    reason = models.TextField(help_text="why; it is shown with every hold")
    is_enabled = models.BooleanField(default=True)
    skipped_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="what ends at or before this time is skipped"
    )
    created_by = models.CharField(max_length=160, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(scope__regex=rf"^({SCOPE.pattern})$") & ~Q(scope__startswith=RUNS),
                name="window_scope_is_known",
                violation_error_message=f"Expected the scope {SCOPES.replace('run:x, ', '')}.",
            ),
            models.CheckConstraint(
                condition=Q(duration_minutes__range=(1, LONGEST_MINUTES)), name="window_lasts_a_week_at_most"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def duration(self) -> timedelta:
        """How long each stretch lasts."""
        return timedelta(minutes=self.duration_minutes)
