"""An invoice as people see it: HTML, and PDF where WeasyPrint is installed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from zoneinfo import ZoneInfo

from django.template.loader import render_to_string

from automation.contrib.credits import conf
from automation.contrib.credits.amounts import THOUSAND, money, smallest_unit, written
from automation.contrib.credits.errors import NoPdf
from automation.contrib.credits.models import Invoice


def as_html(invoice: Invoice) -> str:
    """The invoice as a page."""
    settings, zone = conf.settings(), ZoneInfo(invoice.time_zone)
    amounts = [money(line["credits"] * invoice.credit_price // THOUSAND) for line in invoice.lines]
    credits_of_lines = [written(line["credits"]) for line in invoice.lines]
    columns = zip(invoice.lines, aligned(credits_of_lines), aligned(amounts), strict=True)
    lines = [
        {
            "site": line["site"],
            "stage": line["stage"],
            "items": "" if line["items"] is None else f"{line['items']:,}",
            "credits": credits,
            "amount": amount,
        }
        for line, credits, amount in columns
    ]
    facts = {
        "invoice": invoice,
        "issuer": settings.invoice_issuer,
        "note": settings.invoice_note,
        "issued": invoice.issued_at.astimezone(zone).date(),
        "first": invoice.starts_at.astimezone(zone).date(),
        "last": (invoice.ends_at.astimezone(zone) - timedelta(microseconds=1)).date(),
        "lines": lines,
        "credits": written(invoice.credits),
        "price": money(invoice.credit_price),
        "exact": money(invoice.amount),
        "total": money(payable(invoice)),
    }
    return render_to_string("credits/invoice.html", facts)


def as_pdf(invoice: Invoice) -> bytes:
    """The invoice as PDF. Raises ``NoPdf`` without WeasyPrint."""
    try:
        weasyprint = import_module("weasyprint")
    except (ImportError, OSError) as error:
        raise NoPdf from error
    made: bytes = weasyprint.HTML(string=as_html(invoice)).write_pdf()
    return made


def payable(invoice: Invoice) -> int:
    """Its amount in whole smallest units of the currency, a half rounded up; in millionths."""
    unit = smallest_unit(invoice.currency)
    return (2 * invoice.amount + unit) // (2 * unit) * unit


def aligned(numbers: Sequence[str]) -> list[str]:
    """``numbers`` with as many decimals as the one that has most, so that a column of them lines up."""
    parts = [number.partition(".") for number in numbers]
    most = max((len(decimals) for _, _, decimals in parts), default=0)
    return [f"{whole}.{decimals.ljust(most, '0')}" if most else whole for whole, _, decimals in parts]
