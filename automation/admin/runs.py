"""Runs in the admin: read-only, operated by actions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from automation import gate
from automation.admin import actions, run_facts
from automation.admin.base import StateAdmin, beginning, list_of
from automation.models import AutomationRun, Lifecycle, StageRun
from automation.pipeline import all_pipelines
from automation.reports import payload_access, status
from automation.runs import run_names
from pause_manager import times
from pause_manager.admin.base import ReasonForm


class ByLifecycle(admin.SimpleListFilter):
    title = "status"
    parameter_name = "lifecycle"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        ended = [(value, label.capitalize()) for value, label in Lifecycle.choices]
        return [("unfinished", "Not ended"), ("held", "Paused"), *ended]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        if value == "unfinished":
            return queryset.filter(finished_at__isnull=True)
        if value == "held":
            return queryset.filter(finished_at__isnull=True, paused_at__isnull=False)
        return queryset.filter(lifecycle=value) if value in Lifecycle.values else None


class ByPipeline(admin.SimpleListFilter):
    """Lists the declared pipelines: a query over all runs would be slow."""

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


@admin.register(AutomationRun)
class AutomationRunAdmin(StateAdmin):
    texts = ("failure",)
    to_account = "account__"
    list_display = ["name", "pipeline", "site", "progress", "state", "created", "live_page"]
    list_filter = [ByLifecycle, ByPipeline]
    list_select_related = ["site"]
    search_fields = ["id"]
    search_help_text = "The id of a run or its first digits, or the exact slug of a site."
    ordering = ["-created_at", "-id"]
    action_form = ReasonForm
    actions = actions.ACTIONS
    inlines = [StageInline]
    readonly_fields = ["status", "reasons", "rows"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[run_facts.RunList]:
        return run_facts.RunList

    def get_queryset(self, request: HttpRequest) -> QuerySet[AutomationRun]:
        runs: Any = super().get_queryset(request)
        return runs.present().with_leases()  # type: ignore[no-any-return]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Derive the status of every listed run at once."""
        listed = super().get_changelist_instance(request)
        shown = status.of_each(listed.result_list)
        for run in listed.result_list:
            run.shown_status = shown[run.pk]
        return listed

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AutomationRun], search_term: str
    ) -> tuple[QuerySet[AutomationRun], bool]:
        if not (term := search_term.strip()):
            return queryset, False
        try:
            return queryset.filter(pk=run_names.find(term, queryset).pk), False  # type: ignore[arg-type]
        except run_names.AmbiguousRunName as refusal:
            messages.warning(request, str(refusal))
            return queryset.none(), False
        except run_names.NoSuchRun:
            return queryset.filter(site__slug=term), False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("automation.operate_automationrun")

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("automation.delete_automationrun")

    @admin.display(description="run", ordering="id")
    def name(self, run: AutomationRun) -> str:
        return run_names.short(run.pk)

    @admin.display(description="status")
    def status(self, run: AutomationRun) -> str:
        return getattr(run, "shown_status", None) or status.of(run)

    @admin.display(description="status, and why", ordering="lifecycle")
    def state(self, run: AutomationRun) -> str:
        said = status.in_words(self.status(run))
        why = run.admin_facts.why  # type: ignore[attr-defined]
        return format_html('{}<span class="second">{}</span>', said, beginning(why)) if why else said

    @admin.display(description="progress")
    def progress(self, run: AutomationRun) -> str:
        facts: run_facts.Facts = run.admin_facts  # type: ignore[attr-defined]
        failed = f"{facts.failed:,} failed" if facts.failed else f"of {run.total_items:,} items"
        return format_html('{} %<span class="second">{}</span>', facts.percentage, failed)

    @admin.display(description="created", ordering="created_at")
    def created(self, run: AutomationRun) -> str:
        return format_html(
            '{}<span class="second">by {}</span>', times.written(run.created_at), run.created_by.removeprefix("user:")
        )

    @admin.display(description="why it is not progressing")
    def reasons(self, run: AutomationRun) -> str:
        if run.finished_at is not None:
            return "-"
        reasons = payload_access.without_texts(gate.explain(run))
        return "\n".join(f"{reason.sentence} Resumes when {reason.lifted_by}." for reason in reasons) or "-"

    @admin.display(description="rows")
    def rows(self, run: AutomationRun) -> str:
        return format_html('<a href="{}">stages</a>', list_of(StageRun, "run", run.pk))

    @admin.display(description="live page")
    def live_page(self, run: AutomationRun) -> str:
        try:
            return format_html('<a href="{}">open</a>', reverse("console:run", args=[run.pk]))
        except NoReverseMatch:
            return "-"  # installed without the console
