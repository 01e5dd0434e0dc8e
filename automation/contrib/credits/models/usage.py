"""What runs have used, may use, and have set aside. No two writers ever wait for each other at these rows."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class RunCredits(models.Model):
    """A run that has prices: what it has set aside and may use at most. Written by ``starting`` and ``settling``."""

    run_id = models.UUIDField(primary_key=True)
    account_id = models.BigIntegerField()
    site_id = models.BigIntegerField()
    estimate = models.PositiveBigIntegerField(help_text="thousandths of a credit")
    reserved = models.PositiveBigIntegerField(help_text="thousandths of a credit")
    limit = models.PositiveBigIntegerField(null=True, help_text="most that it may use, in thousandths of a credit")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "run credits"
        indexes: ClassVar = [
            models.Index(fields=["account_id"], condition=Q(settled_at__isnull=True), name="credits_open"),
            models.Index(fields=["created_at"], condition=Q(settled_at__isnull=True), name="credits_to_settle"),
        ]

    def __str__(self) -> str:
        return f"credits of run {self.run_id}"


class Usage(models.Model):
    """What one slice has used in one month, or (``slice_id`` 0) what was used in a stage by slices that have ended.

    A slice has one holder at a time, so nobody waits for this row. Written by the trigger ``credits_charge``, and by
    ``settling``, which adds rows up.
    """

    account_id = models.BigIntegerField()
    site_id = models.BigIntegerField()
    run_id = models.UUIDField()
    stage_run_id = models.BigIntegerField()
    slice_id = models.BigIntegerField()
    stage = models.CharField(max_length=50)
    function = models.CharField(max_length=50)
    month = models.DateField(help_text="its first day, UTC")
    items = models.PositiveBigIntegerField(default=0)
    charged = models.BigIntegerField(default=0, help_text="thousandths of a credit")
    cost = models.BigIntegerField(default=0, help_text="millionths of the currency")
    is_settled = models.BooleanField(default=False, db_default=False, help_text="whether the account's funds are less")

    class Meta:
        verbose_name_plural = "usage"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["stage_run_id", "slice_id", "month", "is_settled"], name="credits_one_usage"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["account_id", "run_id"],
                include=["charged"],
                condition=Q(is_settled=False),
                name="credits_unsettled",
            ),
            models.Index(fields=["run_id"], name="credits_usage_of_run"),
            models.Index(fields=["site_id", "month", "function"], include=["charged"], name="credits_of_site"),
            models.Index(fields=["account_id", "month"], name="credits_usage_by_month"),
            # The first runs of an account, without adding up all of them.
            models.Index(fields=["account_id", "run_id"], name="credits_usage_by_run"),
        ]

    def __str__(self) -> str:
        return f"usage of {self.stage} of run {self.run_id}"


class Grant(models.Model):
    """How many passes the holder of a slice may make, and has made: in force while it holds the slice.

    Written by ``allowance``, and by the trigger ``credits_charge``, which counts ``done``.
    """

    slice_id = models.BigIntegerField(primary_key=True)
    token = models.BigIntegerField(help_text="fencing token of the lease")
    account_id = models.BigIntegerField()
    site_id = models.BigIntegerField()
    run_id = models.UUIDField()
    function = models.CharField(max_length=50)
    expected = models.PositiveBigIntegerField(help_text="thousandths of a credit for a pass")
    granted = models.PositiveBigIntegerField()
    done = models.PositiveBigIntegerField(default=0)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["account_id"], condition=Q(granted__gt=F("done")), name="credits_granted"),
            models.Index(fields=["run_id"], name="credits_grants_of_run"),
        ]

    def __str__(self) -> str:
        return f"{self.granted} passes of slice {self.slice_id}"
