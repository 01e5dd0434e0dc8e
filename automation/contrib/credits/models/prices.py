"""What a stage costs: the prices that people write, and the ones that a run was started with."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from automation.pipeline import all_pipelines


class Price(models.Model):
    """What one unit of a stage's work costs from ``valid_from`` on, until a later price of the stage replaces it.

    A run keeps the prices of the time it started at.
    """

    class Unit(models.TextChoices):
        ITEM = "item", "each item"
        GROUP = "group", "each group of a group stage (elsewhere each item)"
        WORDS = "words", "100 words of what it makes"
        NONE = "none", "nothing: only the provider's cost is recorded, by pass"

    pipeline = models.CharField(max_length=50, help_text="slug of the pipeline")
    stage = models.CharField(max_length=50, help_text="slug of the stage")
    unit = models.CharField(max_length=10, choices=Unit.choices, default=Unit.ITEM)
    charge = models.PositiveBigIntegerField(
        default=0, help_text="what the customer pays for a unit, in thousandths of a credit"
    )
    cost = models.PositiveBigIntegerField(
        default=0, help_text="what the provider takes for a unit, in millionths of the currency"
    )
    charges_failed = models.BooleanField(
        default=False, help_text="whether a failed item is charged, too; its cost is recorded in any case"
    )
    function = models.CharField(
        max_length=50, blank=True, help_text="the part of a site's budget that it uses; empty: the slug of the stage"
    )
    text_field = models.CharField(
        max_length=100, blank=True, help_text="of the outputs, whose words are counted; empty: all texts of an output"
    )
    valid_from = models.DateTimeField(help_text="runs that start from then on pay it")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["pipeline", "stage", "-valid_from"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["pipeline", "stage", "valid_from"], name="credits_one_price_at_a_time"),
            models.CheckConstraint(condition=~Q(unit="none") | Q(charge=0), name="credits_no_unit_no_charge"),
        ]

    def __str__(self) -> str:
        return f"{self.pipeline}/{self.stage} from {self.valid_from:%Y-%m-%d}"

    def clean(self) -> None:
        """The pipeline and stage exist, and only a unit has a charge."""
        known = {pipeline.slug: [stage.slug for stage in pipeline.stages] for pipeline in all_pipelines()}
        if self.pipeline not in known:
            raise ValidationError({"pipeline": f"Expected one of {', '.join(sorted(known))}, got: {self.pipeline}."})
        if self.stage not in known[self.pipeline]:
            stages = ", ".join(known[self.pipeline])
            raise ValidationError({"stage": f"Expected one of {stages}, got: {self.stage}."})
        if self.unit == self.Unit.NONE and self.charge:
            raise ValidationError({"charge": "Expected 0 where no unit is charged."})


class StagePrice(models.Model):
    """The price of one stage of one run, as it was when the run started. Written by ``starting``; read by the trigger.

    Without a constraint to the stage, as all of the ledger: what was paid is kept longer than the run.
    """

    stage_run_id = models.BigIntegerField(primary_key=True)
    run_id = models.UUIDField()
    account_id = models.BigIntegerField()
    site_id = models.BigIntegerField()
    pipeline = models.CharField(max_length=50)
    stage = models.CharField(max_length=50)
    function = models.CharField(max_length=50)
    price_id = models.BigIntegerField()
    unit = models.CharField(max_length=10)
    charge = models.PositiveBigIntegerField(help_text="thousandths of a credit for a unit")
    cost = models.PositiveBigIntegerField(help_text="millionths of the currency for a unit")
    charges_failed = models.BooleanField()
    text_field = models.CharField(max_length=100, blank=True)
    group_size = models.PositiveIntegerField(help_text="items in a pass of the stage")
    expected = models.PositiveBigIntegerField(help_text="thousandths of a credit that one pass is expected to cost")
    prefixes = models.JSONField(default=dict, help_text="what keys of items begin with, by the id of their source")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["run_id"], name="credits_price_of_run")]

    def __str__(self) -> str:
        return f"price of {self.stage} of run {self.run_id}"
