"""URLs under ``/api/v1/schedules/``."""

from __future__ import annotations

from django.urls import path

from automation.api.schedules import views

app_name = "schedules-api"

_ONE = "<str:schedule_id>"

urlpatterns = [
    path("", views.ScheduleList.as_view(), name="schedules"),
    path(f"{_ONE}/", views.ScheduleDetail.as_view(), name="schedule"),
    path(f"{_ONE}/next/", views.ScheduleNext.as_view(), name="next"),
    path(f"{_ONE}/occurrences/", views.ScheduleOccurrences.as_view(), name="occurrences"),
    path(f"{_ONE}/skip/", views.SkipOccurrence.as_view(), name="skip"),
    path(f"{_ONE}/pause/", views.PauseSchedule.as_view(), name="pause"),
    path(f"{_ONE}/resume/", views.ResumeSchedule.as_view(), name="resume"),
    path(f"{_ONE}/run_now/", views.RunNow.as_view(), name="run-now"),
]
