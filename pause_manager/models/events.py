"""The audit trail, and the stored outcomes of commands."""

from __future__ import annotations

from typing import ClassVar

from django.db import connections, models
from django.db.models import Q
from django.db.models.functions import Now


class ControlEventQuerySet(models.QuerySet["ControlEvent"]):
    def of_scope(self, scope: str) -> ControlEventQuerySet:
        """The events of one scope, newest first."""
        return self.filter(scope=scope).order_by("-id")

    def values_used(self, field: str) -> list[str]:
        """The distinct values of an indexed text column, by one look into the index for each: never a scan."""
        table, column = self.model._meta.db_table, field
        with connections[self.db].cursor() as cursor:
            cursor.execute(
                f"WITH RECURSIVE used AS (SELECT min({column}) AS value FROM {table} UNION ALL "
                f"SELECT (SELECT min({column}) FROM {table} WHERE {column} > used.value) FROM used "
                f"WHERE used.value IS NOT NULL) SELECT value FROM used WHERE value IS NOT NULL"
            )
            return [row[0] for row in cursor.fetchall()]


class ControlEvent(models.Model):
    """What was done, by whom, through which channel, why, and with which details. Written by ``audit``.

    Append-only: a trigger refuses UPDATE, DELETE and TRUNCATE. Kept forever; only ``audit.erase`` takes some away.
    """

    at = models.DateTimeField(db_default=Now(), editable=False)
    action = models.CharField(max_length=40)
    scope = models.CharField(max_length=120)
    actor = models.CharField(max_length=160)
    channel = models.CharField(max_length=20)
    reason = models.TextField(blank=True)
    request_id = models.CharField(max_length=100, blank=True)
    details = models.JSONField(default=dict, blank=True)
    before = models.JSONField(null=True, blank=True, help_text="what it was; empty where nothing was there before")
    after = models.JSONField(null=True, blank=True, help_text="what it is since; empty where nothing is left")
    tenant = models.BigIntegerField(
        null=True, blank=True, help_text="whose the scope is, as the app says that knows of tenants (see tenants)"
    )

    objects = ControlEventQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["scope", "-id"], name="event_of_scope"),
            # For the audit's own pages, newest first, by any one filter and by time.
            models.Index(fields=["-at", "-id"], name="event_newest"),
            models.Index(fields=["action", "-at", "-id"], name="event_of_action"),
            models.Index(fields=["actor", "-at", "-id"], name="event_of_actor"),
            models.Index(fields=["channel", "-at", "-id"], name="event_of_channel"),
            models.Index(fields=["request_id"], condition=~Q(request_id=""), name="event_of_request"),
            models.Index(fields=["tenant", "-at", "-id"], condition=Q(tenant__isnull=False), name="event_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.scope} by {self.actor}"


class IdempotencyRecord(models.Model):
    """The outcome of a command sent with an ``Idempotency-Key``, told again to a repeat. Written by ``api``."""

    key = models.CharField(max_length=200)
    actor = models.CharField(max_length=160)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body")
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status; empty while the first is running")
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["actor", "key"], name="one_outcome_per_key")]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="idempotency_age")]

    def __str__(self) -> str:
        return f"{self.key} of {self.actor}"
