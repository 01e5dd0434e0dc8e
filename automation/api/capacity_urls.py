"""URLs under ``/api/v1/`` of the fleet's capacity."""

from __future__ import annotations

from django.urls import path

from automation.api.views import capacity

app_name = "capacity-api"

urlpatterns = [
    path("capacity/", capacity.Capacity.as_view(), name="capacity"),
    path("agents/available-capacity", capacity.AvailableCapacity.as_view(), name="available"),
    path("agents/<str:agent_id>/capacity", capacity.NodeCapacity.as_view(), name="node"),
    path("pause-queue/", capacity.PauseQueue.as_view(), name="pause-queue"),
    path("pause-queue/rename/", capacity.RenameTask.as_view(), name="rename-task"),
    path("pause-queue/<str:entry_id>/drop/", capacity.DropEntry.as_view(), name="drop-entry"),
    path("pause-queue/<str:entry_id>/reroute/", capacity.RerouteEntry.as_view(), name="reroute-entry"),
    path("pause-queue/<str:entry_id>/force-resume/", capacity.ForceResume.as_view(), name="force-resume"),
    path("pause-queue/<str:entry_id>/force-pause/", capacity.ForcePause.as_view(), name="force-pause"),
]
