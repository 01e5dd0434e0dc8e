"""Admin pages for state that only its own rooms write, over tables too large to count."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Model
from django.http import HttpRequest
from django.utils.text import capfirst

from pause_manager.actor import Actor

EXACT_UP_TO = 1_000
MOST_PAGES = 100

M = TypeVar("M", bound=Model)


if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin
    AnyPaginator = Paginator[Any]
else:
    # Django's are generic for type checkers alone.
    AnyPaginator = Paginator

    class ModelAdmin(admin.ModelAdmin):
        def __class_getitem__(cls, model):
            return cls


class EstimatingPaginator(AnyPaginator):
    """Counts up to 1,000 rows, then asks the planner; offers the first hundred pages, since far ones are slow."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        exact: int = rows.order_by()[: EXACT_UP_TO + 1].count()
        return exact if exact <= EXACT_UP_TO else max(exact, self._estimate(rows))

    @cached_property
    def num_pages(self) -> int:
        return min(super().num_pages, MOST_PAGES)

    @staticmethod
    def _estimate(rows: Any) -> int:
        sql, params = rows.order_by().query.sql_with_params()
        with connections[rows.db].cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
            (plan,) = cursor.fetchone()
        plan = json.loads(plan) if isinstance(plan, str) else plan
        return int(plan[0]["Plan"]["Plan Rows"])


class ReadOnlyAdmin(ModelAdmin[M]):
    """Shows rows and changes none: their writers keep rules that a form does not know."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = EstimatingPaginator
    list_per_page = 50

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        title = capfirst(str(self.opts.verbose_name_plural))
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SuperuserAdmin(ReadOnlyAdmin[Any]):
    """Read by superusers only."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)


class ReasonForm(ActionForm):
    """The admin's action bar with a reason."""

    reason = forms.CharField(required=False, max_length=500, label="Reason")


def actor_of(request: HttpRequest) -> Actor:
    """Return the signed-in user as the actor of an admin action."""
    return Actor.user(request.user, channel="admin")


def reason_of(request: HttpRequest) -> str:
    """Return the reason that was typed into the action bar."""
    return request.POST.get("reason", "").strip()[:500]
