"""Payments over a provider: what was ordered, and every notice by which a provider told of money."""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Payment(models.Model):
    """Credits that are to be paid for, and what became of it. Written by ``payments``.

    ``id`` is the reference that the provider sends back.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "not paid yet"
        PAID = "paid", "paid: its credits are booked"

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    account_id = models.BigIntegerField()
    provider = models.CharField(max_length=20)
    key = models.CharField(max_length=100, help_text="the same order again is the same payment")
    credits = models.PositiveBigIntegerField(help_text="thousandths of a credit")
    amount = models.PositiveBigIntegerField(help_text="millionths of the currency")
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    external_id = models.CharField(max_length=255, blank=True, help_text="of the payment at the provider")
    transfer_id = models.BigIntegerField(null=True, help_text="the top-up that it was booked by")
    refunded = models.PositiveBigIntegerField(default=0, help_text="paid back so far, in millionths of the currency")
    actor = models.CharField(max_length=160)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    paid_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account_id", "key"], name="credits_one_payment_for_a_key"),
            models.UniqueConstraint(
                fields=["provider", "external_id"],
                condition=~Q(external_id=""),
                name="credits_one_payment_at_a_provider",
            ),
            models.CheckConstraint(
                condition=Q(state="waiting", external_id="", transfer_id=None, paid_at=None, refunded=0)
                | Q(state="paid", transfer_id__isnull=False, paid_at__isnull=False) & ~Q(external_id=""),
                name="credits_paid_is_booked",
            ),
            models.CheckConstraint(condition=Q(refunded__lte=models.F("amount")), name="credits_refund_within_payment"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["account_id", "-created_at", "-id"], name="credits_payments_of_account"),
            models.Index(fields=["created_at"], condition=Q(state="waiting"), name="credits_unpaid"),
        ]

    def __str__(self) -> str:
        return f"payment {self.pk}"


class PaymentNotice(models.Model):
    """One event of a provider, as it was dealt with; an event is dealt with once. Written by ``payments``."""

    class Outcome(models.TextChoices):
        BOOKED = "booked", "its credits were added"
        REPEATED = "repeated", "it was known: nothing was changed"
        REFUNDED = "refunded", "credits were taken back"
        EARLY = "early", "a refund of a payment that is not known yet: it is booked after it"
        REFUSED = "refused", "refused: a person decides"

    provider = models.CharField(max_length=20)
    event_id = models.CharField(max_length=255)
    kind = models.CharField(max_length=100, help_text="as the provider calls it")
    external_id = models.CharField(max_length=255, blank=True, help_text="of the payment at the provider")
    reference = models.CharField(max_length=200, blank=True, help_text="the payment that it names")
    amount = models.BigIntegerField(help_text="in the smallest unit of the currency")
    currency = models.CharField(max_length=10)
    account_id = models.BigIntegerField(null=True, help_text="if it names a payment of ours")
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    reason = models.TextField(blank=True)
    received_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "event_id"], name="credits_one_notice_of_an_event"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["provider", "external_id"], name="credits_notices_of_payment"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.event_id}"
