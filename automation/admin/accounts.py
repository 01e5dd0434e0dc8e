"""Accounts, sites and memberships in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import ForeignKey
from django.forms import ModelChoiceField
from django.http import HttpRequest

from automation.admin.base import AccountScopedAdmin, people_of
from automation.models import Account, Membership, Site


class MembershipInline(admin.TabularInline[Membership, Account]):
    model = Membership
    extra = 0
    autocomplete_fields = ["user"]

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        if db_field.related_model is get_user_model() and not request.user.is_superuser:
            kwargs["queryset"] = people_of(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


@admin.register(Account)
class AccountAdmin(AccountScopedAdmin):
    to_account = "pk__"
    list_display = ["name", "created_at", "closed_at"]
    search_fields = ["name"]
    readonly_fields = ["closed_at"]
    inlines = [MembershipInline]


@admin.register(Site)
class SiteAdmin(AccountScopedAdmin):
    to_account = "account__"
    list_display = ["name", "slug", "account", "retention_days", "created_at", "closed_at"]
    readonly_fields = ["closed_at"]
    list_select_related = ["account"]
    search_fields = ["slug", "name"]
    autocomplete_fields = ["account"]


@admin.register(Membership)
class MembershipAdmin(AccountScopedAdmin):
    to_account = "account__"
    list_display = ["account", "user"]
    list_select_related = ["account", "user"]
    search_fields = ["account__name", "user__username"]
    autocomplete_fields = ["account", "user"]
