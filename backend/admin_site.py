"""The admin as part of the console: its name, its colours, and tables that nobody needs every day at the end."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

INTERNALS = frozenset(
    {
        "CapacitySample",
        "ControlState",
        "CounterSample",
        "CounterTotal",
        "FleetWorker",
        "IdempotencyRecord",
        "Machine",
        "PollState",
        "RunningTask",
        "FailedTask",
        "StageRun",
        "Ticket",
        "TokenProxy",
        "WaitingSample",
        "WorkItem",
        "WorkSlice",
    }
)
"""Models that show how the system works inside."""


class SlackwaterAdminSite(admin.AdminSite):
    """Without a sidebar: the lists need the width."""

    site_header = "Slackwater"
    site_title = "Slackwater admin"
    index_title = "Admin"
    enable_nav_sidebar = False

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        apps: list[Any] = super().get_app_list(request, app_label)
        if app_label is not None:
            return apps
        inside: list[Any] = []
        for app in apps:
            inside += [model for model in app["models"] if model["object_name"] in INTERNALS]
            app["models"] = [model for model in app["models"] if model["object_name"] not in INTERNALS]
        shown = [app for app in apps if app["models"]]
        if inside:
            group = {"name": "Internals", "app_label": "internals", "app_url": "", "has_module_perms": True}
            shown.append({**group, "models": sorted(inside, key=lambda model: str(model["name"]))})
        return shown
