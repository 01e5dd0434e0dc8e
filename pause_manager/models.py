"""Holds and the audit trail. Status columns are written only by the rooms named in each docstring."""

from __future__ import annotations

import re
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from pause_manager.querysets import ControlEventQuerySet, HoldQuerySet

SCOPE = re.compile(r"fleet|(queue|pipeline|lane|run|node):\S{1,100}")


class Hold(models.Model):
    """A row that stops a scope. Work may proceed if and only if no active hold covers it. Written by ``holds``."""

    class Kind(models.TextChoices):
        OPERATOR = "operator", "operator"
        CAPACITY = "capacity", "capacity"
        FREEZE = "freeze", "freeze"
        BUDGET = "budget", "budget"
        NEEDS_INPUT = "needs_input", "needs input"

    class Mode(models.TextChoices):
        DRAIN = "drain", "drain: what is leased finishes, nothing new is leased"
        QUIESCE = "quiesce", "quiesce: stop at the next item"

    class OnExpiry(models.TextChoices):
        RESUME = "resume", "resume"
        CANCEL = "cancel", "cancel"
        KEEP = "keep", "keep and alert"

    scope = models.CharField(max_length=120, help_text="fleet, queue:x, pipeline:x, lane:x, run:x or node:x")
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
        ]

    def __str__(self) -> str:
        return f"{self.kind} hold on {self.scope}"


class ControlEvent(models.Model):
    """What was done, by whom, through which door, why, and with which figures. Append-only; written by ``audit``."""

    at = models.DateTimeField(db_default=Now(), editable=False)
    action = models.CharField(max_length=40)
    scope = models.CharField(max_length=120)
    actor = models.CharField(max_length=160)
    channel = models.CharField(max_length=20)
    reason = models.TextField(blank=True)
    request_id = models.CharField(max_length=100, blank=True)
    figures = models.JSONField(default=dict, blank=True)

    objects = ControlEventQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["scope", "-id"], name="event_of_scope")]

    def __str__(self) -> str:
        return f"{self.action} {self.scope} by {self.actor}"


class IdempotencyRecord(models.Model):
    """The outcome of a command sent with an ``Idempotency-Key``, told again to a repeat. Written by ``api``."""

    key = models.CharField(max_length=200)
    actor = models.CharField(max_length=160)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body")
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status; empty while the first is at work")
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["actor", "key"], name="one_outcome_per_key")]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="idempotency_age")]

    def __str__(self) -> str:
        return f"{self.key} of {self.actor}"
