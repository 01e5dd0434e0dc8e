"""``/api/v1/credits/``: accounts, bookings, usage, budgets, prices. Callers see their own accounts only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.runs import selection
from automation.api.schema import COMMAND, READ, answers
from automation.contrib.credits import accounts, budgets, estimates, ledger, reports, starting
from automation.contrib.credits.api import errors
from automation.contrib.credits.api.permissions import MayUseCredits
from automation.contrib.credits.api.serializers import (
    AccountChangesSerializer,
    AccountSerializer,
    BudgetChangesSerializer,
    BudgetSerializer,
    CorrectionSerializer,
    LimitSerializer,
    PriceSerializer,
    RunUsageSerializer,
    TopUpSerializer,
    TransferQuery,
    TransferSerializer,
    UsageQuery,
    UsageSerializer,
)
from automation.contrib.credits.errors import AccountNotFound, BookingNotFound
from automation.contrib.credits.models import Transfer, Usage
from automation.models import Account, Site
from automation.models.accounts import accounts_of
from automation.pipeline import all_pipelines
from pause_manager.api.http import pagination
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.pagination import page_of

TAGS = ["credits"]
ACCOUNT_ID = OpenApiParameter("account_id", OpenApiTypes.STR, OpenApiParameter.PATH, description="Id of an account.")
TRANSFER_ID = OpenApiParameter("transfer_id", OpenApiTypes.STR, OpenApiParameter.PATH, description="Id of a booking.")
SITE = OpenApiParameter("site_id", OpenApiTypes.STR, OpenApiParameter.PATH, description="Slug or id of a site.")


class CreditsView(AutomationView):
    """A view over the credits of the caller's accounts."""

    permission_classes = [MayUseCredits]

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return errors.handle

    def account(self, account_id: str) -> Account:
        """The account, if the caller belongs to it. Raises ``AccountNotFound``."""
        if account_id.isascii() and account_id.isdecimal() and len(account_id) < 19:
            found: Account | None = self.accounts().filter(pk=int(account_id)).first()
            if found is not None:
                return found
        raise AccountNotFound(account_id)

    def accounts(self) -> Any:
        rows = Account.objects.order_by("name")
        return rows if self.request.user.is_superuser else rows.filter(pk__in=accounts_of(self.request.user))

    def of_caller(self, rows: Any) -> Any:
        """``rows`` with an ``account_id``, of the caller's accounts."""
        return rows if self.request.user.is_superuser else rows.filter(account_id__in=accounts_of(self.request.user))


class Accounts(CreditsView):
    """The credits of accounts."""

    @extend_schema(
        operation_id="list_credits",
        summary="List your accounts with their credits",
        tags=TAGS,
        parameters=[schema.REQUEST_ID],
        responses=answers({200: AccountSerializer(many=True)}, *READ),
    )
    def get(self, request: Request) -> Response:
        return Response(AccountSerializer([accounts.shown(one) for one in self.accounts()], many=True).data)


class OneAccount(CreditsView):
    """The credits of one account."""

    @extend_schema(
        operation_id="show_credits",
        summary="Show the credits and rules of an account",
        tags=TAGS,
        parameters=[ACCOUNT_ID, schema.REQUEST_ID],
        responses=answers({200: AccountSerializer}, *READ),
    )
    def get(self, request: Request, account_id: str) -> Response:
        return Response(AccountSerializer(accounts.shown(self.account(account_id))).data)

    @extend_schema(
        operation_id="change_credits",
        summary="Change the rules of an account",
        tags=TAGS,
        parameters=[ACCOUNT_ID, *schema.COMMAND_PARAMETERS],
        request=AccountChangesSerializer,
        responses=answers({200: AccountSerializer}, *COMMAND),
    )
    @idempotent
    def patch(self, request: Request, account_id: str) -> Response:
        account = self.account(account_id)
        accounts.change(account, self.body(AccountChangesSerializer), actor=self.actor)
        return Response(AccountSerializer(accounts.shown(account)).data)


class TopUps(CreditsView):
    """Credits that are added."""

    @extend_schema(
        operation_id="top_up_credits",
        summary="Add credits to an account",
        description="The same `key` again returns the first booking; with another amount it is refused.",
        tags=TAGS,
        parameters=[ACCOUNT_ID, *schema.COMMAND_PARAMETERS],
        request=TopUpSerializer,
        responses=answers({200: TransferSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, account_id: str) -> Response:
        account, given = self.account(account_id), self.body(TopUpSerializer)
        made = ledger.top_up(account, given["credits"], key=given["key"], actor=self.actor, reason=given["reason"])
        return Response(TransferSerializer(_with_amounts().get(pk=made.pk)).data)


class Transfers(CreditsView):
    """Bookings."""

    @extend_schema(
        operation_id="list_transfers",
        summary="List bookings, newest first",
        tags=TAGS,
        parameters=[TransferQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("TransferPage", TransferSerializer)}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(TransferQuery)
        names = {"account": "account_id", "run_id": "run_id", "kind": "kind"}
        rows = self.of_caller(_with_amounts()).filter(**{names[key]: query[key] for key in names if key in query})
        return Response(
            pagination.page(request, rows, ("-id",), query, lambda found: TransferSerializer(found, many=True).data)
        )


class Corrections(CreditsView):
    """Corrections of a booking."""

    @extend_schema(
        operation_id="correct_transfer",
        summary="Correct a booking by another",
        tags=TAGS,
        parameters=[TRANSFER_ID, *schema.COMMAND_PARAMETERS],
        request=CorrectionSerializer,
        responses=answers({200: TransferSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, transfer_id: str) -> Response:
        found = None
        if transfer_id.isascii() and transfer_id.isdecimal() and len(transfer_id) < 19:
            found = self.of_caller(Transfer.objects.all()).filter(pk=int(transfer_id)).first()
        if found is None:
            raise BookingNotFound(transfer_id)
        given = self.body(CorrectionSerializer)
        made = ledger.correct(found, given["credits"], key=given["key"], actor=self.actor, reason=given["reason"])
        return Response(TransferSerializer(_with_amounts().get(pk=made.pk)).data)


def _with_amounts() -> Any:
    return reports.with_amounts(Transfer.objects.all())


class UsageHistory(CreditsView):
    """What was used."""

    @extend_schema(
        operation_id="usage_history",
        summary="Add up what was used, by month, site, stage or run",
        description="At most the newest 1,000 rows.",
        tags=TAGS,
        parameters=[UsageQuery, schema.REQUEST_ID],
        responses=answers({200: UsageSerializer(many=True)}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(UsageQuery)
        rows = self.of_caller(Usage.objects.all())
        if "account" in query:
            rows = rows.filter(account_id=query["account"])
        if "site" in query:
            rows = rows.filter(site_id=selection.find_site(request.user, query["site"]).pk)
        since = query.get("since") or reports.a_year_ago()
        rows = rows.filter(month__gte=since.replace(day=1))
        if "until" in query:
            rows = rows.filter(month__lte=query["until"].replace(day=1))
        return Response(UsageSerializer(reports.history(rows, query["by"]), many=True).data)


class Budgets(CreditsView):
    """The budget of a site."""

    @extend_schema(
        operation_id="show_budget",
        summary="Show the budget of a site, and what is used of it this month",
        tags=TAGS,
        parameters=[SITE, schema.REQUEST_ID],
        responses=answers({200: BudgetSerializer}, *READ),
    )
    def get(self, request: Request, site_id: str) -> Response:
        return Response(_budget(selection.find_site(request.user, site_id)))

    @extend_schema(
        operation_id="change_budget",
        summary="Change the budget of a site",
        tags=TAGS,
        parameters=[SITE, *schema.COMMAND_PARAMETERS],
        request=BudgetChangesSerializer,
        responses=answers({200: BudgetSerializer}, *COMMAND),
    )
    @idempotent
    def patch(self, request: Request, site_id: str) -> Response:
        site = selection.find_site(request.user, site_id)
        accounts.change_budget(site, self.body(BudgetChangesSerializer), actor=self.actor)
        return Response(_budget(site))


def _budget(site: Site) -> Any:
    found = budgets.of_site(site.pk, site.account_id)
    told = {**vars(found), "max_credits_per_run": found.max_per_run, "site_id": site.slug}
    return BudgetSerializer({**told, "used": reports.used_by_function(site.pk)}).data


class Prices(CreditsView):
    """What stages cost."""

    @extend_schema(
        operation_id="list_prices",
        summary="List the prices in force",
        tags=TAGS,
        parameters=[schema.REQUEST_ID],
        responses=answers({200: PriceSerializer(many=True)}, *READ),
    )
    def get(self, request: Request) -> Response:
        found = [price for one in all_pipelines() for price in estimates.prices_of(one.slug).values()]
        return Response(PriceSerializer(found, many=True).data)


class RunCreditsView(CreditsView):
    """The credits of a run."""

    @extend_schema(
        operation_id="show_run_credits",
        summary="Show what a run has used, and set aside",
        tags=TAGS,
        parameters=[schema.RUN_ID, schema.REQUEST_ID],
        responses=answers({200: RunUsageSerializer}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        return self._shown(selection.find(request.user, run_id))

    @extend_schema(
        operation_id="limit_run_credits",
        summary="Change the most that a run may use",
        description="A run that was stopped at its limit is then resumed as any other.",
        tags=TAGS,
        parameters=[schema.RUN_ID, *schema.COMMAND_PARAMETERS],
        request=LimitSerializer,
        responses=answers({200: RunUsageSerializer}, *COMMAND),
    )
    @idempotent
    def patch(self, request: Request, run_id: str) -> Response:
        run = selection.find(request.user, run_id)
        starting.change_limit(run, self.body(LimitSerializer)["limit"], actor=self.actor)
        return self._shown(run)

    def _shown(self, run: Any) -> Response:
        found = reports.of_run(run.pk)
        told = vars(found) if found is not None else {"used": 0, "reserved": 0, "limit": None, "stages": []}
        return Response(RunUsageSerializer({"run_id": run.pk, **told}).data)
