"""The engine in the admin: state is read-only, runs are operated by actions, accounts and sites are edited."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import ForeignKey, Model, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from automation import gate
from automation.admin import audit, run_actions
from automation.models import Account, AutomationRun, Lifecycle, Membership, Site, StageRun
from automation.models.accounts import accounts_of
from automation.models.work import ItemFailure, Ticket, WorkItem, WorkSlice
from automation.pipeline import all_pipelines
from automation.reports import payload_access, status
from pause_manager.admin.base import ReadOnlyAdmin


class OfAccount(admin.ModelAdmin[Any]):
    """Rows of the accounts that the user belongs to; ``to_account`` is the way from a row to its account."""

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
            kwargs["queryset"] = _people_of(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Called once a saved form, in its transaction: where the event belongs."""
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


def _people_of(user: Any) -> QuerySet[Any]:
    """Whom ``user`` shares an account with. New people are brought in by superusers."""
    people = get_user_model()._default_manager.filter(accounts__in=accounts_of(user))
    return people.distinct()


class MembershipInline(admin.TabularInline[Membership, Account]):
    model = Membership
    extra = 0
    autocomplete_fields = ["user"]

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        if db_field.related_model is get_user_model() and not request.user.is_superuser:
            kwargs["queryset"] = _people_of(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


@admin.register(Account)
class AccountAdmin(OfAccount):
    to_account = "pk__"
    list_display = ["name", "created_at", "closed_at"]
    search_fields = ["name"]
    readonly_fields = ["closed_at"]
    inlines = [MembershipInline]


@admin.register(Site)
class SiteAdmin(OfAccount):
    to_account = "account__"
    list_display = ["name", "slug", "account", "retention_days", "created_at", "closed_at"]
    readonly_fields = ["closed_at"]
    list_select_related = ["account"]
    search_fields = ["slug", "name"]
    autocomplete_fields = ["account"]


@admin.register(Membership)
class MembershipAdmin(OfAccount):
    to_account = "account__"
    list_display = ["account", "user"]
    list_select_related = ["account", "user"]
    search_fields = ["account__name", "user__username"]
    autocomplete_fields = ["account", "user"]


class ByLifecycle(admin.SimpleListFilter):
    title = "lifecycle"
    parameter_name = "lifecycle"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("unfinished", "Unfinished"), ("held", "Paused"), *Lifecycle.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        if value == "unfinished":
            return queryset.filter(finished_at__isnull=True)
        if value == "held":
            return queryset.filter(finished_at__isnull=True, paused_at__isnull=False)
        return queryset.filter(lifecycle=value) if value in Lifecycle.values else None


class ByPipeline(admin.SimpleListFilter):
    """From the code's declarations, not from a walk over all runs."""

    title = "pipeline"
    parameter_name = "pipeline"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(pipeline.slug, pipeline.title) for pipeline in all_pipelines()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        return queryset.filter(pipeline=self.value()) if self.value() else None


class StageInline(admin.TabularInline[StageRun, AutomationRun]):
    model = StageRun
    ordering = ["position"]
    fields = ("position", "slug", "lifecycle", "total_items", "started_at", "finished_at")
    readonly_fields = fields
    extra = 0
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission


class StateAdmin(ReadOnlyAdmin[Any], OfAccount):
    """Read-only rows, limited to the user's accounts."""

    texts: tuple[str, ...] = ()
    """Fields in which stages speak in their own words: they may quote an item."""

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> Any:
        return None if payload_access.may_view(request.user) else self.texts

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Nor is asked by a filter in the address what may not be read."""
        if lookup.partition("__")[0] in self.texts and not payload_access.may_view(request.user):
            return False
        return super().lookup_allowed(lookup, value, request)


class PayloadAdmin(StateAdmin):
    """Rows that contain what items do."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return payload_access.may_view(request.user) and super().has_view_permission(request, obj)


class PartAdmin(StateAdmin):
    """Rows of which a run has very many: listed to members for what ``of`` names alone, never all that is theirs.

    Theirs may be few among everybody's, and no index knows whose they are.
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
            messages.info(request, "Open a run and follow its links: only the rows of one are listed.")
        return super().changelist_view(request, extra_context)

    def _asks_for_all(self, request: HttpRequest) -> bool:
        is_list = request.resolver_match is not None and str(request.resolver_match.url_name).endswith("_changelist")
        return is_list and not request.user.is_superuser and f"{self.of}__id__exact" not in request.GET


@admin.register(AutomationRun)
class AutomationRunAdmin(StateAdmin):
    texts = ("failure",)
    to_account = "account__"
    list_display = ["name", "pipeline", "site", "status", "total_items", "created_at", "created_by", "live_page"]
    list_filter = [ByLifecycle, ByPipeline]
    list_select_related = ["site"]
    search_fields = ["id"]
    search_help_text = "The id of a run, or the exact slug of a site."
    ordering = ["-created_at", "-id"]
    action_form = run_actions.ReasonForm
    actions = run_actions.ACTIONS
    inlines = [StageInline]
    readonly_fields = ["status", "reasons", "rows"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AutomationRun]:
        runs: Any = super().get_queryset(request)
        return runs.present().with_leases()  # type: ignore[no-any-return]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AutomationRun], search_term: str
    ) -> tuple[QuerySet[AutomationRun], bool]:
        if not (term := search_term.strip()):
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            return queryset.filter(site__slug=term), False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("automation.operate_automationrun")

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("automation.delete_automationrun")

    @admin.display(description="run", ordering="id")
    def name(self, run: AutomationRun) -> str:
        return str(run.pk)

    @admin.display(description="status")
    def status(self, run: AutomationRun) -> str:
        return status.of(run)

    @admin.display(description="why it waits")
    def reasons(self, run: AutomationRun) -> str:
        if run.finished_at is not None:
            return "-"
        reasons = payload_access.without_texts(gate.explain(run))
        return "\n".join(f"{reason.sentence} Goes on when {reason.lifted_by}." for reason in reasons) or "-"

    @admin.display(description="rows")
    def rows(self, run: AutomationRun) -> str:
        return format_html('<a href="{}">stages</a>', _list_of(StageRun, "run", run.pk))

    @admin.display(description="live page")
    def live_page(self, run: AutomationRun) -> str:
        try:
            return format_html('<a href="{}">open</a>', reverse("console:run", args=[run.pk]))
        except NoReverseMatch:
            return "-"  # installed without the console


@admin.register(StageRun)
class StageRunAdmin(PartAdmin):
    of = "run"
    texts = ("loop_error",)
    to_account = "run__account__"
    list_display = ["id", "slug", "run", "lifecycle", "total_items", "started_at", "finished_at", "more"]
    list_select_related = ["run"]
    ordering = ["-id"]

    @admin.display(description="rows")
    def more(self, stage_run: StageRun) -> str:
        links = [(WorkItem, "made_by"), (WorkSlice, "stage_run"), (ItemFailure, "stage_run")]
        return format_html(
            '<a href="{}">outputs</a> · <a href="{}">slices</a> · <a href="{}">failures</a>',
            *(_list_of(model, field, stage_run.pk) for model, field in links),
        )


def _list_of(model: type[Model], field: str, pk: int | UUID) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") + f"?{field}__id__exact={pk}"


@admin.register(WorkItem)
class WorkItemAdmin(PayloadAdmin, PartAdmin):
    of = "made_by"
    to_account = "made_by__run__account__"
    list_display = ["key", "made_by", "payload_start"]
    list_select_related = ["made_by"]
    # By the column and not the relation, whose own ordering would join and sort everything.
    ordering = ["made_by_id", "key"]

    @admin.display(description="payload")
    def payload_start(self, item: WorkItem) -> str:
        return _start(str(item.payload))


class ByState(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("leased", "Leased"), ("open", "Open"), ("finished", "Finished")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() == "leased":
            return queryset.filter(finished_at__isnull=True, lease_token__isnull=False)
        if self.value() in ("open", "finished"):
            return queryset.filter(finished_at__isnull=self.value() == "open")
        return None


@admin.register(WorkSlice)
class WorkSliceAdmin(PartAdmin):
    of = "stage_run"
    texts = ("waits_for",)
    to_account = "stage_run__run__account__"
    list_display = ["id", "stage_run", "ordinal", "size", "processed", "failed", "lease_owner", "lease_expires_at"]
    list_select_related = ["stage_run"]
    list_filter = [ByState]
    ordering = ["stage_run_id", "phase", "ordinal"]


@admin.register(ItemFailure)
class ItemFailureAdmin(PayloadAdmin, PartAdmin):
    of = "stage_run"
    to_account = "stage_run__run__account__"
    list_display = ["key", "stage_run", "error_start", "attempts", "failed_at"]
    list_select_related = ["stage_run"]
    ordering = ["-id"]

    @admin.display(description="error")
    def error_start(self, failure: ItemFailure) -> str:
        return _start(failure.error)


@admin.register(Ticket)
class TicketAdmin(PartAdmin):
    of = "stage_run"
    to_account = "stage_run__run__account__"
    list_display = ["id", "stage_run", "queue", "sent_at"]
    list_select_related = ["stage_run"]
    ordering = ["-id"]


def _start(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:159]}…"


from automation.admin import agents  # noqa: E402, F401  (registers; needs what is above)
