"""Account billing settings and budgets of sites in the admin."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest

from automation.admin.base import AccountScopedAdmin
from automation.contrib.credits import funds, ledger
from automation.contrib.credits.amounts import thousandths_of, written
from automation.contrib.credits.api.permissions import MANAGE
from automation.contrib.credits.errors import BookingRefused, KeyReused
from automation.contrib.credits.models import Billing, SiteBudget
from pause_manager.admin.base import actor_of, reason_of


class TopUpForm(ActionForm):
    """The action bar with an amount. Its key belongs to the page: sent twice, it is one booking."""

    credits = forms.CharField(required=False, max_length=20, label="Credits")
    reason = forms.CharField(required=False, max_length=500, label="Reason")
    key = forms.CharField(required=False, widget=forms.HiddenInput, initial=lambda: str(uuid4()))


@admin.register(Billing)
class BillingAdmin(AccountScopedAdmin):
    """What accounts have, and their rules."""

    to_account = "account__"
    action_form = TopUpForm
    list_display = ["account", "balance", "reserved", "overdraft", "max_credits_per_run", "on_top_up", "low_since"]
    list_select_related = ["account"]
    search_fields = ["account__name"]
    autocomplete_fields = ["account"]
    readonly_fields = ["balance", "reserved", "low_since"]
    actions = ["add_credits"]

    @admin.display(description="credits")
    def balance(self, row: Billing) -> str:
        return written(funds.of_account(row.pk).balance)

    @admin.display(description="set aside")
    def reserved(self, row: Billing) -> str:
        return written(funds.of_account(row.pk).reserved)

    def get_readonly_fields(self, request: HttpRequest, obj: Billing | None = None) -> Any:
        return [*super().get_readonly_fields(request, obj), *(["account"] if obj is not None else [])]

    def has_delete_permission(self, request: HttpRequest, obj: Billing | None = None) -> bool:
        return False

    def has_manage_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(MANAGE)

    @admin.action(description="Add credits", permissions=["manage"])
    def add_credits(self, request: HttpRequest, queryset: QuerySet[Billing]) -> None:
        try:
            amount = thousandths_of(request.POST.get("credits", "").strip())
        except ValueError as error:
            self.message_user(request, f"Cannot add credits: {error}.", messages.ERROR)
            return
        for row in queryset.select_related("account"):
            try:
                key = f"admin:{request.POST.get('key', '')}"
                ledger.top_up(row.account, amount, key=key, actor=actor_of(request), reason=reason_of(request))
            except (BookingRefused, KeyReused) as refused:
                self.message_user(request, str(refused), messages.ERROR)
                continue
            balance = written(funds.of_account(row.pk).balance)
            self.message_user(request, f"{row.account} has {balance} credits.", messages.SUCCESS)


@admin.register(SiteBudget)
class SiteBudgetAdmin(AccountScopedAdmin):
    """What sites may use in a month."""

    to_account = "site__account__"
    list_display = ["site", "monthly", "is_split", "max_credits_per_run"]
    list_select_related = ["site"]
    search_fields = ["site__slug", "site__name"]
    autocomplete_fields = ["site"]
