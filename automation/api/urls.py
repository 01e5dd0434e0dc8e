"""URLs under ``/api/v1/automation/``."""

from __future__ import annotations

from django.urls import path

from automation.api.views import compatible, insight, runs, unknown, work

app_name = "automation-api"

_RUN = "runs/<str:run_id>"

urlpatterns = [
    path("runs/", runs.RunList.as_view(), name="runs"),
    path(f"{_RUN}/", runs.RunDetail.as_view(), name="run"),
    path(f"{_RUN}/start/", runs.StartRun.as_view(), name="start-run"),
    path(f"{_RUN}/pause/", runs.PauseRun.as_view(), name="pause-run"),
    path(f"{_RUN}/resume/", runs.ResumeRun.as_view(), name="resume-run"),
    path(f"{_RUN}/cancel/", runs.CancelRun.as_view(), name="cancel-run"),
    path(f"{_RUN}/retry-failed/", runs.RetryFailed.as_view(), name="retry-failed"),
    path(f"{_RUN}/progress/", insight.RunProgress.as_view(), name="progress"),
    path(f"{_RUN}/stages/", insight.RunStages.as_view(), name="stages"),
    path(f"{_RUN}/explain/", insight.RunExplanation.as_view(), name="explain"),
    path(f"{_RUN}/items/", work.RunItems.as_view(), name="items"),
    path(f"{_RUN}/failures/", work.RunFailures.as_view(), name="failures"),
    path(f"{_RUN}/events/", work.RunEvents.as_view(), name="events"),
    path("pipelines/", work.PipelineList.as_view(), name="pipelines"),
    path("pause/", compatible.PauseSite.as_view(), name="pause"),
    path("resume/", compatible.ResumeSite.as_view(), name="resume"),
    path("cancel/", compatible.CancelSite.as_view(), name="cancel"),
    path("current_run/", compatible.CurrentRun.as_view(), name="current-run"),
    path("current_processing/", compatible.CurrentProcessing.as_view(), name="current-processing"),
    path("history/", compatible.History.as_view(), name="history"),
    path("logs/", compatible.Logs.as_view(), name="logs"),
    path("<path:rest>/", unknown.Unknown.as_view()),
]
