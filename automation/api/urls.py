"""URLs under ``/api/v1/automation/``."""

from __future__ import annotations

from django.urls import path

from automation.api.base import Unknown
from automation.api.compat import configuration
from automation.api.compat import views as compat
from automation.api.progress import views as progress
from automation.api.runs import bulk, questions
from automation.api.runs import views as runs
from automation.api.work import explanations
from automation.api.work import views as work

app_name = "automation-api"

_RUN = "runs/<str:run_id>"

urlpatterns = [
    path("runs/", runs.RunList.as_view(), name="runs"),
    path("runs/pause/", bulk.PauseRuns.as_view(), name="pause-runs"),
    path("runs/resume/", bulk.ResumeRuns.as_view(), name="resume-runs"),
    path("runs/cancel/", bulk.CancelRuns.as_view(), name="cancel-runs"),
    path(f"{_RUN}/", runs.RunDetail.as_view(), name="run"),
    path(f"{_RUN}/start/", runs.StartRun.as_view(), name="start-run"),
    path(f"{_RUN}/pause/", runs.PauseRun.as_view(), name="pause-run"),
    path(f"{_RUN}/resume/", runs.ResumeRun.as_view(), name="resume-run"),
    path(f"{_RUN}/cancel/", runs.CancelRun.as_view(), name="cancel-run"),
    path(f"{_RUN}/dependencies/", runs.AddDependencies.as_view(), name="dependencies"),
    path(f"{_RUN}/dependencies/release/", runs.ReleaseDependency.as_view(), name="release-dependency"),
    path(f"{_RUN}/answer/", questions.AnswerRun.as_view(), name="answer-run"),
    path(f"{_RUN}/questions/", questions.RunQuestions.as_view(), name="questions"),
    path(f"{_RUN}/retry-failed/", runs.RetryFailed.as_view(), name="retry-failed"),
    path(f"{_RUN}/progress/", progress.RunProgress.as_view(), name="progress"),
    path(f"{_RUN}/stages/", progress.RunStages.as_view(), name="stages"),
    path(f"{_RUN}/explain/", progress.RunExplanation.as_view(), name="explain"),
    path(f"{_RUN}/items/", work.RunItems.as_view(), name="items"),
    path(f"{_RUN}/failures/", work.RunFailures.as_view(), name="failures"),
    path(f"{_RUN}/events/", work.RunEvents.as_view(), name="events"),
    path("pipelines/", work.PipelineList.as_view(), name="pipelines"),
    path("pipelines/<str:pipeline>/explain/", explanations.PipelineExplanation.as_view(), name="explain-pipeline"),
    path("agents/<str:agent>/explain/", explanations.AgentExplanation.as_view(), name="explain-agent"),
    path("pause/", compat.PauseSite.as_view(), name="pause"),
    path("resume/", compat.ResumeSite.as_view(), name="resume"),
    path("cancel/", compat.CancelSite.as_view(), name="cancel"),
    path("current_run/", compat.CurrentRun.as_view(), name="current-run"),
    path("current_processing/", compat.CurrentProcessing.as_view(), name="current-processing"),
    path("history/", compat.History.as_view(), name="history"),
    path("logs/", compat.Logs.as_view(), name="logs"),
    path("config/", configuration.Configuration.as_view(), name="config"),
    path("pipeline_overview/", configuration.PipelineOverview.as_view(), name="pipeline-overview"),
    path("estimate/", configuration.Estimate.as_view(), name="estimate"),
    path("<path:rest>/", Unknown.as_view()),
]
