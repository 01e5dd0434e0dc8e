"""Parts of runs in the admin: stages, items, slices, failures, tickets. Read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from automation.admin.base import PartAdmin, PayloadAdmin, beginning, list_of
from automation.models import StageRun
from automation.models.work import ItemFailure, Ticket, WorkItem, WorkSlice


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
            *(list_of(model, field, stage_run.pk) for model, field in links),
        )


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
        return beginning(str(item.payload))


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
        return beginning(failure.error)


@admin.register(Ticket)
class TicketAdmin(PartAdmin):
    of = "stage_run"
    to_account = "stage_run__run__account__"
    list_display = ["id", "stage_run", "queue", "sent_at"]
    list_select_related = ["stage_run"]
    ordering = ["-id"]
