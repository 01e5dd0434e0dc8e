"""URLs of the console: the pause manager's pages, and those of runs, under one namespace."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.generic import RedirectView

from backend.console import access, sign_in
from backend.console.credits import usage as credit_usage
from backend.console.new_run import page as new_run
from backend.console.run import by_name, controls, files
from backend.console.run import page as run_page
from backend.console.schedules import form as schedule_form
from pause_manager.console.urls import patterns

app_name = "console"

urlpatterns = [
    path("runs/new/", new_run.page, name="start"),
    path("runs/new/preview/", new_run.preview, name="start-preview"),
    path("runs/<uuid:run_id>/", run_page.page, name="run"),
    path("runs/<uuid:run_id>/control/", controls.control, name="control"),
    path("runs/<uuid:run_id>/answer/", controls.answer, name="answer"),
    path("runs/<uuid:run_id>/files/<path:name>", access.for_payload_viewers(files.file), name="file"),
    path("runs/<slug:called>/", by_name.page, name="run-by-name"),
    path("schedules/new/", schedule_form.new, name="schedule-new"),
    path("schedules/preview/", schedule_form.preview, name="schedule-preview"),
    path("schedules/<int:schedule_id>/", schedule_form.edit, name="schedule-edit"),
    path("credits/usage/", credit_usage.export, name="credits-usage"),
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}console/mark.svg")),
    path("sign-in/", sign_in.SignIn.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(next_page="console:sign-in"), name="sign-out"),
    *patterns(),
]
