"""Every URL of the system."""

from __future__ import annotations

from importlib import import_module

import django_stubs_ext
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from backend import health, metrics
from backend.mcp.endpoint import endpoint as mcp_endpoint

django_stubs_ext.monkeypatch()  # for `ModelAdmin[...]` and others that Django subscripts in its stubs only
admin.autodiscover()
import_module("backend.user_admin")  # replaces classes registered just now

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("api/v1/serial-gate/", include("automation.api.serial_gate.urls")),
    path("api/", include("pause_manager.api.urls")),
    path("api/queue/jobs/", include("automation.api.agents.urls")),
    path("api/v1/automation/", include("automation.api.urls")),
    path("api/v1/", include("automation.api.lanes.urls")),
    path("api/v1/credits/", include("automation.contrib.credits.api.urls")),
    path("webhooks/", include("automation.contrib.credits.api.webhook_urls")),
    path("api/v1/schedules/", include("automation.api.schedules.urls")),
    path("mcp", mcp_endpoint, name="mcp"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
    path("", include("backend.console.urls")),
]
