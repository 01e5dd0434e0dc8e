"""URLs under ``/api/`` that need ``pause_manager`` alone."""

from __future__ import annotations

from django.urls import path

from pause_manager.api import fleet, holds, thresholds

app_name = "fleet-api"

urlpatterns = [
    path("system/worker-pause", fleet.WorkerPause.as_view(), name="worker-pause"),
    path("v1/holds/", holds.HoldList.as_view(), name="holds"),
    path("v1/nodes/<str:node>/threshold/", thresholds.NodeThreshold.as_view(), name="node-threshold"),
    path("v1/holds/release/", holds.HoldRelease.as_view(), name="release-holds"),
]
