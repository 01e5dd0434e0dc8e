"""URLs under ``/api/`` that need ``pause_manager`` alone."""

from __future__ import annotations

from django.urls import path

from pause_manager.api import (
    audit,
    capacity,
    fleet,
    health,
    holds,
    overrides,
    pause_queue,
    resources,
    thresholds,
    waiting,
    windows,
)

app_name = "pause-manager-api"

urlpatterns = [
    path("system/worker-pause", fleet.WorkerPause.as_view(), name="worker-pause"),
    path("v1/health/", health.Health.as_view(), name="health"),
    path("v1/holds/", holds.HoldList.as_view(), name="holds"),
    path("v1/pause-windows/", windows.WindowList.as_view(), name="pause-windows"),
    path("v1/pause-windows/<str:window>/", windows.WindowDetail.as_view(), name="pause-window"),
    path("v1/pause-windows/<str:window>/skip/", windows.WindowSkip.as_view(), name="skip-pause-window"),
    path("v1/nodes/<str:node>/threshold/", thresholds.NodeThreshold.as_view(), name="node-threshold"),
    path("v1/holds/release/", holds.HoldRelease.as_view(), name="release-holds"),
    path("v1/overrides/", overrides.OverrideList.as_view(), name="overrides"),
    path("v1/overrides/<str:override_id>/", overrides.OverrideDetail.as_view(), name="override"),
    path("v1/capacity/", capacity.Capacity.as_view(), name="capacity"),
    path("v1/agents/available-capacity", capacity.AvailableCapacity.as_view(), name="available-capacity"),
    path("v1/agents/<str:agent_id>/capacity", capacity.NodeCapacity.as_view(), name="node-capacity"),
    path("v1/pause-queue/", pause_queue.PauseQueue.as_view(), name="pause-queue"),
    path("v1/pause-queue/rename/", pause_queue.RenameTask.as_view(), name="rename-task"),
    path("v1/pause-queue/<str:entry_id>/explain/", pause_queue.EntryExplanation.as_view(), name="explain-entry"),
    path("v1/pause-queue/<str:entry_id>/drop/", pause_queue.DropEntry.as_view(), name="drop-entry"),
    path("v1/pause-queue/<str:entry_id>/answer/", pause_queue.AnswerEntry.as_view(), name="answer-entry"),
    path("v1/pause-queue/<str:entry_id>/reroute/", pause_queue.RerouteEntry.as_view(), name="reroute-entry"),
    path("v1/pause-queue/<str:entry_id>/force-resume/", pause_queue.ForceResume.as_view(), name="force-resume"),
    path("v1/pause-queue/<str:entry_id>/force-pause/", pause_queue.ForcePause.as_view(), name="force-pause"),
    path("v1/resources/", resources.ResourceList.as_view(), name="resources"),
    path("v1/resources/<str:resource>/", resources.ResourceDetail.as_view(), name="resource"),
    path("v1/resources/<str:resource>/line/", resources.ResourceLine.as_view(), name="resource-line"),
    path("v1/resources/<str:resource>/probe/", resources.ResourceProbe.as_view(), name="probe-resource"),
    path("v1/waiting/", waiting.Waiting.as_view(), name="waiting"),
    path("v1/audit/", audit.Audit.as_view(), name="audit"),
    path("v1/audit/export/", audit.AuditExport.as_view(), name="audit-export"),
]
