"""URLs under ``/api/v1/automation/``."""

from __future__ import annotations

from django.urls import path

from automation.api.views import insight, runs

app_name = "automation-api"

_RUN = "runs/<str:run_id>"

urlpatterns = [
    path("runs/", runs.RunList.as_view(), name="runs"),
    path(f"{_RUN}/", runs.RunDetail.as_view(), name="run"),
    path(f"{_RUN}/pause/", runs.PauseRun.as_view(), name="pause-run"),
    path(f"{_RUN}/resume/", runs.ResumeRun.as_view(), name="resume-run"),
    path(f"{_RUN}/cancel/", runs.CancelRun.as_view(), name="cancel-run"),
    path(f"{_RUN}/progress/", insight.RunProgress.as_view(), name="progress"),
]
