"""Base classes of the engine's admin: rows of the user's accounts, read-only state, parts of a run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import ForeignKey, Model, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest
from django.urls import reverse

from automation.admin import audit
from automation.models import Account
from automation.models.accounts import accounts_of
from automation.reports import payload_access
from pause_manager.admin.base import ReadOnlyAdmin


class AccountScopedAdmin(admin.ModelAdmin[Any]):
    """Rows of the user's accounts; ``to_account`` is the lookup from a row to its account."""

    to_account = ""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if request.user.is_superuser:
            return rows
        return rows.filter(**{f"{self.to_account}in": accounts_of(request.user)})

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        if db_field.related_model is Account and not request.user.is_superuser:
            kwargs["queryset"] = Account.objects.filter(pk__in=accounts_of(request.user))
        if db_field.related_model is get_user_model() and not request.user.is_superuser:
            kwargs["queryset"] = people_of(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Record the event here: Django calls this once per saved form, in its transaction."""
        audit.saved(request, form, formsets, is_new=add)
        return super().construct_change_message(request, form, formsets, add)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        with transaction.atomic():
            audit.deleted(request, [obj])
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            audit.deleted(request, list(queryset))
            super().delete_queryset(request, queryset)


def people_of(user: Any) -> QuerySet[Any]:
    """The people who share an account with ``user``. Superusers add new people."""
    people = get_user_model()._default_manager.filter(accounts__in=accounts_of(user))
    return people.distinct()


class StateAdmin(ReadOnlyAdmin[Any], AccountScopedAdmin):
    """Read-only rows, limited to the user's accounts."""

    texts: tuple[str, ...] = ()
    """Fields with texts of stages, which may quote an item."""

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> Any:
        return None if payload_access.may_view(request.user) else self.texts

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse filters over hidden fields, which would reveal them."""
        if lookup.partition("__")[0] in self.texts and not payload_access.may_view(request.user):
            return False
        return super().lookup_allowed(lookup, value, request)


class PayloadAdmin(StateAdmin):
    """Rows with contents of items."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return payload_access.may_view(request.user) and super().has_view_permission(request, obj)


class PartAdmin(StateAdmin):
    """Rows of which a run has very many: members can list only those of one parent, which ``of`` names.

    No index finds the few rows of their accounts among all.
    """

    of = ""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if self._asks_for_all(request):
            return rows.none()
        if request.user.is_superuser:
            return rows
        return rows.filter(**{f"{self.to_account.removesuffix('account__')}deleted_at__isnull": True})

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if self._asks_for_all(request):
            messages.info(request, "Open a run and follow its links: only rows of one run are listed.")
        return super().changelist_view(request, extra_context)

    def _asks_for_all(self, request: HttpRequest) -> bool:
        is_list = request.resolver_match is not None and str(request.resolver_match.url_name).endswith("_changelist")
        return is_list and not request.user.is_superuser and f"{self.of}__id__exact" not in request.GET


def list_of(model: type[Model], field: str, pk: int | UUID) -> str:
    """The address of the list of ``model`` narrowed to the rows whose ``field`` is ``pk``."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") + f"?{field}__id__exact={pk}"


def beginning(text: str) -> str:
    """The beginning of a text, for a column."""
    return text if len(text) <= 160 else f"{text[:159]}…"
