"""URLs under ``/api/`` that need ``pause_manager`` alone."""

from __future__ import annotations

from django.urls import path

from pause_manager.api import audit, fleet, health, holds, thresholds

app_name = "pause-manager-api"

urlpatterns = [
    path("system/worker-pause", fleet.WorkerPause.as_view(), name="worker-pause"),
    path("v1/health/", health.Health.as_view(), name="health"),
    path("v1/holds/", holds.HoldList.as_view(), name="holds"),
    path("v1/nodes/<str:node>/threshold/", thresholds.NodeThreshold.as_view(), name="node-threshold"),
    path("v1/holds/release/", holds.HoldRelease.as_view(), name="release-holds"),
    path("v1/audit/", audit.Audit.as_view(), name="audit"),
    path("v1/audit/export/", audit.AuditExport.as_view(), name="audit-export"),
]
