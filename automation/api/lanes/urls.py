"""URLs under ``/api/v1/`` of what runs wait for."""

from __future__ import annotations

from django.urls import path

from automation.api.lanes import views

app_name = "lanes-api"

urlpatterns = [
    path("queue/", views.Queue.as_view(), name="queue"),
    path("lanes/", views.LaneList.as_view(), name="lanes"),
    path("lanes/<str:lane>/", views.LaneDetail.as_view(), name="lane"),
]
