"""URLs under ``/api/queue/jobs/``, for agents."""

from __future__ import annotations

from django.urls import path

from automation.api.agents import views

app_name = "jobs-api"

urlpatterns = [
    path("claim", views.Claim.as_view(), name="claim"),
    path("<str:job_id>/heartbeat", views.Heartbeat.as_view(), name="heartbeat"),
    path("<str:job_id>/items", views.Items.as_view(), name="items"),
    path("<str:job_id>/checkpoint", views.Checkpoint.as_view(), name="checkpoint"),
    path("<str:job_id>/complete", views.Complete.as_view(), name="complete"),
    path("<str:job_id>/ask", views.Ask.as_view(), name="ask"),
    path("<str:job_id>/freeze", views.Freeze.as_view(), name="freeze"),
    path("<str:job_id>/fail", views.Fail.as_view(), name="fail"),
]
