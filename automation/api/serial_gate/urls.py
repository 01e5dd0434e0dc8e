"""URLs under ``/api/v1/serial-gate/``."""

from __future__ import annotations

from django.urls import path

from automation.api.serial_gate import views

app_name = "serial-gate-api"

urlpatterns = [
    path("pause", views.Park.as_view(), name="pause"),
    path("resume", views.Unpark.as_view(), name="resume"),
    path("freeze", views.Freeze.as_view(), name="freeze"),
    path("unfreeze", views.Unfreeze.as_view(), name="unfreeze"),
]
