"""The page of credits: what an account has, what it has used and for what, bookings, invoices and payments."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from automation.contrib.credits import accounts, amounts, reports
from automation.contrib.credits.models import Billing, Invoice, Payment, Transfer
from automation.models import Account, AutomationRun, Site
from backend.console.credits import actions, usage, visible
from pause_manager.console.pages import Action, Context, Page, Query
from pause_manager.console.viewer import Viewer

MOST_ACCOUNTS = 100
BOOKINGS = 20
INVOICES = 24
PAYMENTS = 20


def context(viewer: Viewer, query: Query) -> Context:
    """Return the credits of the account that ``account`` names, else of the first one that the viewer may see."""
    user = viewer.user
    known = list(visible.accounts(user)[:MOST_ACCOUNTS])
    account = visible.account(user, query["account"]) if query.get("account") else next(iter(known), None)
    found: Context = {"accounts": known, "account": account, "may_manage": viewer.has_perm(visible.MANAGE)}
    if account is None:
        return found
    filters = usage.Filters.of(query)
    sums = usage.sums(account, filters)
    kept = {name: query[name] for name in ("by", "site", "since", "until") if query.get(name)}
    return found | {
        "has": accounts.shown(account),
        "filters": filters,
        "sums": _linked(sums[: usage.SHOWN], filters.by, user),
        "more_sums": max(0, len(sums) - usage.SHOWN),
        "total": sum(one["credits"] for one in sums),
        "bars": usage.bars(sums, filters.by),
        "chart": {"width": usage.WIDTH, "height": usage.HEIGHT},
        "ways": usage.BY.items(),
        "sites": Site.objects.filter(account=account).order_by("slug").values_list("slug", "name")[:200],
        "usage_query": urlencode({"account": account.pk, **kept}),
        "on_top_ups": Billing.OnTopUp.choices,
        "new_key": f"console-{uuid4().hex[:12]}",
        **_bookings(account, query),
        "invoices": [
            (invoice, amounts.money(invoice.amount))
            for invoice in Invoice.objects.filter(account_id=account.pk).order_by("-id")[:INVOICES]
        ],
        "has_pdf": find_spec("weasyprint") is not None,
        "payments": [
            (payment, amounts.money(payment.amount))
            for payment in Payment.objects.filter(account_id=account.pk).order_by("-created_at", "-id")[:PAYMENTS]
        ],
    }


def _bookings(account: Account, query: Query) -> Context:
    kinds = [kind for kind in Transfer.Kind.choices if kind[0] != Transfer.Kind.COST]
    kind = query.get("kind", "") if query.get("kind") in dict(kinds) else ""
    rows = reports.with_amounts(Transfer.objects.filter(account_id=account.pk, unit=Transfer.Unit.CREDITS))
    rows = rows.filter(kind=kind) if kind else rows
    before = query.get("before", "")
    if before.isascii() and before.isdecimal() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows.order_by("-id")[: BOOKINGS + 1])
    return {
        "bookings": found[:BOOKINGS],
        "kinds": kinds,
        "kind": kind,
        "older": found[BOOKINGS - 1].pk if len(found) > BOOKINGS else "",
        "is_paged": bool(before),
    }


def _linked(sums: list[dict[str, Any]], by: str, user: Any) -> list[dict[str, Any]]:
    """The rows, each with the id of its run where that may be opened."""
    if by != "run":
        return sums
    ids = [one["name"] for one in sums]
    seen = {str(pk) for pk in AutomationRun.objects.visible_to(user).filter(pk__in=ids).values_list("pk", flat=True)}
    return [one | {"run": one["name"] if one["name"] in seen else ""} for one in sums]


PAGE = Page(
    name="credits",
    path="credits/",
    title="Credits",
    template="console/credits/content.html",
    context=context,
    may_view=visible.may_view,
    icon="credits",
    order=130,
    key="c",
    refresh_seconds=30.0,
    styles=("console/credits.css",),
    actions={
        "top_up": Action(actions.top_up, visible.MANAGE),
        "correct": Action(actions.correct, visible.MANAGE),
        "change": Action(actions.change, visible.MANAGE),
    },
)
