"""Holds: the rows that stop a scope."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

SCOPE = re.compile(r"fleet|(queue|pipeline|lane|run|node|resource):\S{1,100}")
SCOPES = "fleet, queue:x, pipeline:x, lane:x, run:x, node:x or resource:x"
"""What a scope may be, for people."""


class HoldQuerySet(models.QuerySet["Hold"]):
    def active(self) -> HoldQuerySet:
        """Holds in force: not released. An expired hold is in force until ``holds.expire`` has acted on it."""
        return self.filter(released_at__isnull=True)

    def covering(self, scopes: Iterable[str]) -> HoldQuerySet:
        """Holds in force on any of ``scopes``."""
        return self.active().filter(scope__in=list(scopes))

    def due(self) -> HoldQuerySet:
        """Timed holds whose time is over by the database's clock."""
        return self.active().filter(expires_at__lte=Now())


class Hold(models.Model):
    """A row that stops a scope. Work may proceed if and only if no active hold covers it. Written by ``holds``."""

    class Kind(models.TextChoices):
        OPERATOR = "operator", "operator"
        CAPACITY = "capacity", "capacity"
        FREEZE = "freeze", "freeze"
        BUDGET = "budget", "budget"
        NEEDS_INPUT = "needs_input", "needs input"
        WINDOW = "window", "pause window"
        THROTTLED = "throttled", "throttled: a resource said “too much”"

    class Mode(models.TextChoices):
        DRAIN = "drain", "drain: what is leased finishes, nothing new is leased"
        QUIESCE = "quiesce", "quiesce: stop at the next item"

    class OnExpiry(models.TextChoices):
        RESUME = "resume", "resume"
        CANCEL = "cancel", "cancel"
        KEEP = "keep", "keep and alert"
        QUIESCE = "quiesce", "from then on stop at the next item"

    scope = models.CharField(max_length=120, help_text=SCOPES)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    mode = models.CharField(max_length=10, choices=Mode.choices)
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=160)
    idempotency_key = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    on_expiry = models.CharField(max_length=10, choices=OnExpiry.choices, default=OnExpiry.RESUME)
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.CharField(max_length=160, blank=True)
    release_reason = models.TextField(blank=True)
    drained_at = models.DateTimeField(null=True, blank=True, help_text="when the last of what it stops had stopped")
    work_resumed_at = models.DateTimeField(null=True, blank=True, help_text="first work after its release")
    revision = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="of the holds that workers obey, when it was last placed or altered"
    )
    stopped = models.PositiveIntegerField(
        default=0, db_default=0, help_text="tasks that workers had in hand when they began to obey it"
    )

    objects = HoldQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["scope", "kind"], condition=Q(released_at__isnull=True), name="one_active_hold"
            ),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True) | ~Q(released_by=""), name="a_release_names_its_actor"
            ),
            models.CheckConstraint(condition=Q(scope__regex=rf"^({SCOPE.pattern})$"), name="hold_scope_is_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], condition=Q(released_at__isnull=True), name="hold_due"),
            models.Index(fields=["scope", "-id"], name="hold_of_scope"),
            models.Index(
                fields=["scope"],
                condition=Q(released_at__isnull=False, work_resumed_at__isnull=True),
                name="hold_not_resumed",
            ),
            models.Index(fields=["released_at"], condition=Q(released_at__isnull=False), name="hold_released"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} hold on {self.scope}"
