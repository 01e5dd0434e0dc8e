"""What an account has used, as a chart, a table and a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from automation.contrib.credits import amounts, reports
from automation.contrib.credits.models import Usage
from automation.models import Account, Site
from backend.console.credits import visible
from pause_manager.console.access import restricted

BY = {"month": "month", "site": "site", "stage": "stage", "run": "run"}
SHOWN = 100
"""Rows of the table; the file has more."""
CHARTED = 24
WIDTH, HEIGHT = 480, 120


@dataclass(frozen=True)
class Bar:
    """One sum in the chart."""

    name: str
    x: float
    y: float
    width: float
    height: float
    credits: int


@dataclass(frozen=True)
class Filters:
    """What usage is added up by, and of what."""

    by: str
    site: str
    since: date
    until: date | None
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filters:
        """From the query string; what cannot be understood is told and left out."""
        problems = []
        by = query.get("by") or "month"
        if by not in BY:
            problems.append(f"by: expected one of {', '.join(BY)}, got: {by[:40]}.")
            by = "month"
        found: dict[str, date | None] = {}
        for name in ("since", "until"):
            text = query.get(name, "").strip()
            try:
                found[name] = date.fromisoformat(f"{text[:7]}-01") if text else None
            except ValueError:
                problems.append(f"{name}: expected a month such as 2026-11, got: {text[:40]}.")
                found[name] = None
        since = found["since"] or reports.a_year_ago()
        return cls(by, query.get("site", "").strip()[:60], since, found["until"], tuple(problems))


def sums(account: Account, filters: Filters) -> list[dict[str, Any]]:
    """Rows of ``{name, items, credits}``; credits in thousandths."""
    rows = Usage.objects.filter(account_id=account.pk, month__gte=filters.since)
    if filters.until is not None:
        rows = rows.filter(month__lte=filters.until)
    if filters.site:
        site = Site.objects.filter(account=account).filter(Q(slug=filters.site)).first()
        rows = rows.filter(site_id=site.pk) if site is not None else rows.none()
    return reports.history(rows, filters.by)


def bars(found: list[dict[str, Any]], by: str) -> list[Bar]:
    """The chart of the first sums; months go from left to right."""
    shown = found[:CHARTED]
    if by == "month":
        shown = shown[::-1]
    most = max((one["credits"] for one in shown), default=0)
    if most <= 0:
        return []
    step = WIDTH / max(len(shown), 6)
    found_bars = []
    for number, one in enumerate(shown):
        tall = round(max(0, one["credits"]) / most * HEIGHT, 1)
        left, top = round((number + 0.1) * step, 1), round(HEIGHT - tall, 1)
        found_bars.append(Bar(one["name"], left, top, round(step * 0.8, 1), tall, one["credits"]))
    return found_bars


@require_safe
@restricted(visible.may_view)
def export(request: HttpRequest) -> HttpResponse:
    """Download what was used as CSV, with the same filters as the page."""
    account = visible.account(request.user, request.GET.get("account", ""))
    if account is None:
        raise Http404
    filters = Filters.of(request.GET.dict())
    if filters.problems:
        return HttpResponse(f"Cannot export: {' '.join(filters.problems)}", status=400, content_type="text/plain")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow((filters.by, "items", "credits"))
    for one in sums(account, filters):
        writer.writerow((one["name"], one["items"], amounts.credits_of(one["credits"])))
    headers = {
        "Content-Disposition": f'attachment; filename="usage-{account.pk}-by-{filters.by}.csv"',
        "Cache-Control": "no-store",
    }
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)
