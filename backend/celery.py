"""The Celery app: ``celery -A backend``."""

from __future__ import annotations

import os
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings.dev")

# Celery warns root of pickled messages; only JSON is accepted here.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("slackwater")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
