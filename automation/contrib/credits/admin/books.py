"""Bookings and usage in the admin: read-only, with an export."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase

from automation.admin.base import StateAdmin
from automation.contrib.credits import reports
from automation.contrib.credits.amounts import written
from automation.contrib.credits.models import Line, RunCredits, Transfer, Usage
from pause_manager.observability.audit_export import FORMULA_STARTS
from pause_manager.observability.streaming import download

CHUNK = 1_000


def csv_lines(rows: QuerySet[Any], columns: tuple[str, ...]) -> Iterator[bytes]:
    """``rows`` as CSV with a header, newest first, page by page."""
    yield _line(columns)
    page = list(rows.order_by("-pk")[:CHUNK])
    while page:
        for row in page:
            yield _line(getattr(row, name) for name in columns)
        page = list(rows.filter(pk__lt=page[-1].pk).order_by("-pk")[:CHUNK])


def _line(cells: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe; numbers stay numbers."""
    if isinstance(value, int):
        return value
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


class BooksAdmin(StateAdmin):
    """Rows of the user's accounts that only the ledger writes."""

    to_account = "account_id__"
    columns: tuple[str, ...] = ()
    actions = ["export"]

    @admin.action(description="Export as CSV", permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase:
        name = f"{queryset.model._meta.model_name}.csv"
        return download(request, csv_lines(queryset, self.columns), name=name, content_type="text/csv")


class LineInline(admin.TabularInline[Line, Transfer]):
    model = Line
    extra = 0
    fields = ("book", "amount", "item_key")
    readonly_fields = fields
    can_delete = False
    max_num = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Transfer)
class TransferAdmin(BooksAdmin):
    """Every booking; corrections are made by ``manage.py credits`` and the API."""

    list_display = ["id", "kind", "credits", "account_id", "run_id", "stage", "actor", "reason", "created_at"]
    list_filter = ["kind"]
    search_fields = ["=run_id", "key"]
    columns = ("id", "created_at", "kind", "unit", "account_id", "amount", "run_id", "stage", "actor", "reason")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = reports.with_amounts(super().get_queryset(request))
        return rows

    @admin.display(description="amount")
    def credits(self, transfer: Any) -> str:
        if transfer.unit == Transfer.Unit.CREDITS:
            return written(transfer.amount or 0)
        return f"{transfer.amount or 0:,} millionths"


@admin.register(Usage)
class UsageAdmin(BooksAdmin):
    """What was used, by stage of a run and month."""

    list_display = ["month", "account_id", "site_id", "run_id", "stage", "function", "items", "credits", "cost"]
    list_filter = ["month", "function"]
    search_fields = ["=run_id"]
    columns = ("month", "account_id", "site_id", "run_id", "stage", "function", "items", "charged", "cost")

    @admin.display(description="credits", ordering="charged")
    def credits(self, row: Usage) -> str:
        return written(row.charged)


@admin.register(RunCredits)
class RunCreditsAdmin(BooksAdmin):
    """What runs have set aside, and their limits."""

    list_display = ["run_id", "account_id", "site_id", "estimate", "reserved", "limit", "created_at", "settled_at"]
    search_fields = ["=run_id"]
    actions = []
