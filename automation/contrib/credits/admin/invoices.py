"""Invoices in the admin: read-only, as PDF."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from automation.contrib.credits.admin.books import BooksAdmin
from automation.contrib.credits.amounts import money, written
from automation.contrib.credits.api.invoices import pdf_of
from automation.contrib.credits.errors import NoPdf
from automation.contrib.credits.models import Invoice


@admin.register(Invoice)
class InvoiceAdmin(BooksAdmin):
    """``credits.issue_invoices`` and ``manage.py credits invoice`` issue them."""

    list_display = ["number", "name", "month", "total", "due", "issued_at"]
    list_filter = ["month"]
    search_fields = ["number", "name"]
    columns = ("number", "issued_at", "account_id", "name", "month", "credits", "amount", "currency")
    actions = ["export", "download_pdf"]

    @admin.display(description="credits", ordering="credits")
    def total(self, invoice: Invoice) -> str:
        return written(invoice.credits)

    @admin.display(description="amount", ordering="amount")
    def due(self, invoice: Invoice) -> str:
        return f"{money(invoice.amount)} {invoice.currency}"

    @admin.action(description="Download as PDF (one)", permissions=["view"])
    def download_pdf(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        found = list(queryset[:2])
        if len(found) != 1:
            self.message_user(request, "Cannot download: expected one invoice, got several.", messages.ERROR)
            return None
        try:
            return pdf_of(found[0])
        except NoPdf as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
