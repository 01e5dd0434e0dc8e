"""URLs under ``/api/v1/audit/``."""

from __future__ import annotations

from django.urls import path

from pause_manager.api import audit

app_name = "audit-api"

urlpatterns = [
    path("", audit.Audit.as_view(), name="audit"),
    path("export/", audit.AuditExport.as_view(), name="export"),
]
