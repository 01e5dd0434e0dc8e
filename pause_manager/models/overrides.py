"""Values that operators have set for a while, and that go back by themselves."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class OverrideQuerySet(models.QuerySet["Override"]):
    def active(self) -> OverrideQuerySet:
        """Overrides in force."""
        return self.filter(ended_at__isnull=True)

    def due(self) -> OverrideQuerySet:
        """Overrides in force whose time is over."""
        return self.active().filter(expires_at__lte=Now())


class Override(models.Model):
    """A value that is in force instead of another until ``expires_at``. Written by ``overrides.writer``.

    ``kind`` says of what, see ``overrides.kinds``; ``target`` names the thing. ``previous`` is what the kind needs to
    put back what was there, if it has written over it.
    """

    kind = models.CharField(max_length=40)
    target = models.CharField(max_length=200)
    scope = models.CharField(max_length=120, help_text="what it is about, as holds and events name it")
    value = models.JSONField()
    previous = models.JSONField(null=True, blank=True, editable=False)
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=160)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(max_length=160, blank=True)
    outcome = models.CharField(max_length=300, blank=True, help_text="what its end did")

    objects = OverrideQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind", "target"], condition=Q(ended_at__isnull=True), name="one_active_override"
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | ~Q(ended_by=""), name="an_end_of_an_override_names_its_actor"
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="override_ends_later"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], condition=Q(ended_at__isnull=True), name="override_due"),
            models.Index(fields=["ended_at"], condition=Q(ended_at__isnull=False), name="override_ended"),
        ]

    def __str__(self) -> str:
        return f"override of {self.kind} of {self.target}"
