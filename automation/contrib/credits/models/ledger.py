"""The ledger: transfers of lines that add up to zero. Nothing of it is ever changed; a correction is a transfer."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Transfer(models.Model):
    """One booking. The deferred constraint ``credits_sum_to_zero`` refuses a transaction whose lines do not cancel out.

    Written by ``ledger`` and by the trigger ``credits_charge`` alone.
    """

    class Kind(models.TextChoices):
        TOP_UP = "top_up", "top-up"
        CHARGE = "charge", "charge for work"
        COST = "cost", "cost of a provider"
        RESERVE = "reserve", "reserved for a run"
        SETTLE = "settle", "reservation settled"
        CORRECTION = "correction", "correction"

    class Unit(models.TextChoices):
        CREDITS = "credits", "thousandths of a credit"
        MONEY = "money", "millionths of the currency"

    kind = models.CharField(max_length=12, choices=Kind.choices)
    unit = models.CharField(max_length=8, choices=Unit.choices)
    account_id = models.BigIntegerField(help_text="of the customer")
    run_id = models.UUIDField(null=True)
    stage = models.CharField(max_length=50, blank=True)
    price_id = models.BigIntegerField(null=True)
    corrects = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="corrections")
    # Without a key (charges), any number of rows: an empty text would be one.
    key = models.CharField(  # noqa: DJ001
        max_length=200, null=True, unique=True, help_text="the same booking again changes nothing"
    )
    actor = models.CharField(max_length=160)
    reason = models.TextField(blank=True)
    xact = models.BigIntegerField(help_text="the transaction that wrote it: no other adds lines to it")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        permissions: ClassVar = [("manage_credits", "Can top up, correct and set limits of accounts")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(key=""), name="credits_key_is_not_empty"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["account_id", "-id"], name="credits_of_account"),
            models.Index(fields=["run_id", "id"], name="credits_of_run"),
            models.Index(fields=["account_id", "created_at"], name="credits_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Line(models.Model):
    """One side of a transfer. A line of an item is the only one of its kind for that item, whatever was repeated."""

    class Book(models.TextChoices):
        AVAILABLE = "available", "credits of the customer"
        RESERVED = "reserved", "credits set aside for runs"
        PAID_IN = "paid_in", "credits handed out"
        REVENUE = "revenue", "credits used"
        PAYABLE = "payable", "due to providers"
        EXPENSE = "expense", "costs of providers"

    transfer = models.ForeignKey(Transfer, on_delete=models.PROTECT, related_name="lines", db_constraint=False)
    book = models.CharField(max_length=10, choices=Book.choices)
    account_id = models.BigIntegerField()
    amount = models.BigIntegerField(help_text="in the unit of the transfer")
    stage_run_id = models.BigIntegerField(null=True)
    item_key = models.CharField(max_length=200, db_collation="C", blank=True)
    kind = models.CharField(max_length=12, choices=Transfer.Kind.choices)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["stage_run_id", "item_key", "kind"],
                condition=Q(stage_run_id__isnull=False),
                name="credits_once_for_an_item",
            ),
        ]

        indexes: ClassVar = [
            # One line of each charge: what is added up for invoices and reports.
            models.Index(fields=["transfer"], include=["amount"], condition=Q(book="revenue"), name="credits_revenue"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} in {self.book}"
