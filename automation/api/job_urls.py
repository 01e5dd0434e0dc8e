"""URLs under ``/api/queue/jobs/``, for agents."""

from __future__ import annotations

from django.urls import path

from automation.api.views import jobs

app_name = "jobs-api"

urlpatterns = [
    path("claim", jobs.Claim.as_view(), name="claim"),
    path("<str:job_id>/heartbeat", jobs.Heartbeat.as_view(), name="heartbeat"),
    path("<str:job_id>/items", jobs.Items.as_view(), name="items"),
    path("<str:job_id>/checkpoint", jobs.Checkpoint.as_view(), name="checkpoint"),
    path("<str:job_id>/complete", jobs.Complete.as_view(), name="complete"),
    path("<str:job_id>/fail", jobs.Fail.as_view(), name="fail"),
]
