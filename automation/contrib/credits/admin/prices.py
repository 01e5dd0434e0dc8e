"""Prices in the admin: written until they are in force, and read from then on."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from automation.admin.base import AccountScopedAdmin
from automation.contrib.credits.amounts import written
from automation.contrib.credits.models import Price


@admin.register(Price)
class PriceAdmin(AccountScopedAdmin):
    """The same for all accounts."""

    list_display = ["pipeline", "stage", "unit", "credits", "cost", "charges_failed", "valid_from"]
    list_filter = ["pipeline", "unit"]
    search_fields = ["pipeline", "stage"]
    date_hierarchy = "valid_from"

    @admin.display(description="credits", ordering="charge")
    def credits(self, price: Price) -> str:
        return written(price.charge)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super(AccountScopedAdmin, self).get_queryset(request)

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        """A price in force is part of what was agreed: a new one replaces it."""
        return super().has_change_permission(request, obj) and (obj is None or obj.valid_from > timezone.now())

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.valid_from > timezone.now())

    def get_actions(self, request: HttpRequest) -> Any:
        """Without the deletion of many, which asks no price for its date."""
        return {name: found for name, found in super().get_actions(request).items() if name != "delete_selected"}
