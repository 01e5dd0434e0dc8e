"""URLs under ``/webhooks/``: what providers call, apart from the API of people and programs."""

from __future__ import annotations

from django.urls import path

from automation.contrib.credits.api import payments

app_name = "credits-webhooks"

urlpatterns = [path("payments/<str:provider>/", payments.Webhook.as_view(), name="payment")]
