"""The columns of a row that recurs: see ``recurrence.Rule``, which they make."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models

from pause_manager.recurrence import KINDS, InvalidRule, Rule


class Recurring(models.Model):
    """A row with a rule of recurrence."""

    kind = models.CharField(max_length=10, choices=[(kind, kind) for kind in KINDS])
    at = models.TimeField(null=True, blank=True, help_text="daily, weekly, monthly: hours and minutes")
    weekdays = models.CharField(max_length=60, blank=True, help_text="weekly: as in cron, such as mon-fri or sat,sun")
    day_of_month = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="monthly: 1 to 31; the last day of a month that is shorter"
    )
    cron = models.CharField(max_length=200, blank=True, help_text="cron: minute hour day-of-month month weekday")
    every_minutes = models.PositiveIntegerField(
        null=True, blank=True, help_text="interval: from its creation, or its last change"
    )
    time_zone = models.CharField(max_length=64, default="UTC", help_text="whose wall clock it goes by")
    anchor = models.DateTimeField(editable=False, help_text="an interval counts from here")

    RULE: ClassVar = ("kind", "at", "weekdays", "day_of_month", "cron", "every_minutes", "time_zone")

    class Meta:
        abstract = True

    @property
    def rule(self) -> Rule:
        """Its rule, not checked."""
        return Rule(**{name: getattr(self, name) for name in self.RULE}, anchor=self.anchor)

    def clean(self) -> None:
        """Raise ``ValidationError`` by field if its rule is not one."""
        try:
            self.rule.check()
        except InvalidRule as error:
            raise ValidationError({error.field: f"{error.rule}."}) from None
