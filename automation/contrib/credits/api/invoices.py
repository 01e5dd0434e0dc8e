"""``/api/v1/credits/invoices/``."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.schema import READ, answers
from automation.contrib.credits import invoice_pages
from automation.contrib.credits.amounts import money
from automation.contrib.credits.api.serializers import CreditsField
from automation.contrib.credits.api.views import TAGS, CreditsView
from automation.contrib.credits.errors import InvoiceNotFound
from automation.contrib.credits.models import Invoice
from pause_manager.api.http import pagination
from pause_manager.api.http.pagination import PageQuery, page_of

NUMBER = OpenApiParameter("number", OpenApiTypes.STR, OpenApiParameter.PATH, description="Number of an invoice.")


class InvoiceSerializer(serializers.ModelSerializer[Invoice]):
    """What an account has used in a month; `lines` have thousandths of a credit."""

    credits = CreditsField()
    amount = serializers.SerializerMethodField(help_text="In the currency.")

    class Meta:
        model = Invoice
        fields = (
            *("number", "account_id", "name", "address", "month", "starts_at", "ends_at", "time_zone", "lines"),
            *("credits", "amount", "currency", "issued_at"),
        )

    def get_amount(self, invoice: Invoice) -> str:
        """The amount with its decimals."""
        return money(invoice.amount)


class Invoices(CreditsView):
    """Invoices."""

    @extend_schema(
        operation_id="list_invoices",
        summary="List invoices, newest first",
        tags=TAGS,
        parameters=[PageQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("InvoicePage", InvoiceSerializer)}, *READ),
    )
    def get(self, request: Request) -> Response:
        rows = self.of_caller(Invoice.objects.all())
        query = self.query(PageQuery)
        return Response(
            pagination.page(request, rows, ("-id",), query, lambda found: InvoiceSerializer(found, many=True).data)
        )


class InvoicePdf(CreditsView):
    """An invoice as PDF."""

    @extend_schema(
        operation_id="invoice_pdf",
        summary="Download an invoice as PDF",
        description="501 if WeasyPrint is not installed.",
        tags=TAGS,
        parameters=[NUMBER, schema.REQUEST_ID],
        responses={(200, "application/pdf"): OpenApiTypes.BINARY, **answers({}, *READ)},
    )
    def get(self, request: Request, number: str) -> HttpResponse:
        found = self.of_caller(Invoice.objects.all()).filter(number=number).first()
        if found is None:
            raise InvoiceNotFound(number)
        return pdf_of(found)


def pdf_of(invoice: Invoice) -> HttpResponse:
    """``invoice`` as a file. Raises ``NoPdf``."""
    name = f"invoice-{invoice.number}.pdf"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return HttpResponse(invoice_pages.as_pdf(invoice), content_type="application/pdf", headers=headers)
