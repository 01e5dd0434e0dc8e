"""Counters that all processes share."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class CounterTotal(models.Model):
    """The total of all processes under one name and set of labels. Written by ``observability.counters``.

    A few hundred rows at any load: one per counter and label set, one per bucket of a histogram.
    """

    name = models.CharField(max_length=100, help_text="of the sample, such as x_total, x_sum or x_bucket")
    labels = models.CharField(max_length=300, blank=True, help_text="JSON with sorted names")
    value = models.FloatField(default=0)
    counted_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["name", "labels"], name="one_total_per_sample")]

    def __str__(self) -> str:
        return f"{self.name}{self.labels}"


class CounterSample(models.Model):
    """What a counter stood at, over all its labels, in a minute. Written by ``observability.counter_history``."""

    minute = models.DateTimeField()
    name = models.CharField(max_length=100)
    value = models.FloatField()

    class Meta:
        ordering: ClassVar = ["name", "-minute"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["minute", "name"], name="one_counter_sample_a_minute")]

    def __str__(self) -> str:
        return f"{self.name} {self.value}"
