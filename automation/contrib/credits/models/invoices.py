"""Invoices: what an account has used in a month, as it stood when the invoice was issued. Never changed."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class InvoiceNumber(models.Model):
    """The last number of a year. Its row is locked until the invoice that takes the next one commits: no gaps."""

    year = models.PositiveSmallIntegerField(primary_key=True)
    last = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.year}-{self.last:05d}"


class Invoice(models.Model):
    """One month of one account. Written by ``invoices``; the database refuses changes."""

    number = models.CharField(max_length=20, unique=True, help_text="year and number, without gaps")
    account_id = models.BigIntegerField()
    name = models.CharField(max_length=100, help_text="of the account")
    address = models.TextField(blank=True)
    month = models.DateField(help_text="its first day")
    starts_at = models.DateTimeField(help_text="what was used from then on")
    ends_at = models.DateTimeField(help_text="and before that")
    time_zone = models.CharField(max_length=64, help_text="of the account, in which the month is")
    lines = models.JSONField(help_text="site, stage, items and credits in thousandths")
    credits = models.BigIntegerField(help_text="thousandths of a credit")
    credit_price = models.PositiveIntegerField(help_text="of a credit, in millionths of the currency")
    amount = models.BigIntegerField(help_text="millionths of the currency")
    currency = models.CharField(max_length=3)
    issued_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account_id", "month"], name="credits_one_invoice_a_month"),
        ]

    def __str__(self) -> str:
        return f"invoice {self.number}"
