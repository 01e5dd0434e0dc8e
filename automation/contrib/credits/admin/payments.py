"""Payments over providers in the admin: read-only, with an export."""

from __future__ import annotations

from django.contrib import admin

from automation.contrib.credits.admin.books import BooksAdmin
from automation.contrib.credits.amounts import money, written
from automation.contrib.credits.models import Payment, PaymentNotice


@admin.register(Payment)
class PaymentAdmin(BooksAdmin):
    """What was ordered, and paid."""

    list_display = ["id", "account_id", "provider", "ordered", "due", "state", "external_id", "created_at", "paid_at"]
    list_filter = ["state", "provider"]
    search_fields = ["=id", "=external_id"]
    columns = ("id", "created_at", "account_id", "provider", "credits", "amount", "currency", "state", "external_id")

    @admin.display(description="credits", ordering="credits")
    def ordered(self, payment: Payment) -> str:
        return written(payment.credits)

    @admin.display(description="amount", ordering="amount")
    def due(self, payment: Payment) -> str:
        return f"{money(payment.amount)} {payment.currency}"


@admin.register(PaymentNotice)
class PaymentNoticeAdmin(BooksAdmin):
    """What providers told; those that were refused are for a person to decide."""

    list_display = ["received_at", "provider", "kind", "external_id", "amount", "currency", "outcome", "reason"]
    list_filter = ["outcome", "provider"]
    search_fields = ["=event_id", "=external_id", "=reference"]
    columns = ("id", "received_at", "provider", "event_id", "kind", "external_id", "amount", "currency", "outcome")
