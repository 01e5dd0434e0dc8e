"""URLs under ``/api/`` that need ``pause_manager`` alone."""

from __future__ import annotations

from django.urls import path

from pause_manager.api import fleet

app_name = "fleet-api"

urlpatterns = [
    path("system/worker-pause", fleet.WorkerPause.as_view(), name="worker-pause"),
]
