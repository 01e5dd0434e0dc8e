"""The Celery app: ``celery -A backend``."""

from __future__ import annotations

import os
import warnings
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.exceptions import SecurityWarning
from kombu import Connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings.dev")
# In a worker, Django's checks would load every URL and so all of the web; `manage.py check`, `up` and `prepare` do.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

# Celery warns root about pickled messages; only JSON is accepted here.
warnings.filterwarnings("ignore", category=SecurityWarning)

LONGEST_RECONNECT_SECONDS = 5


class PatientConnection(Connection):
    """A connection that retries a lost broker at least every five seconds, however long it was unavailable."""

    def _ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("interval_max", LONGEST_RECONNECT_SECONDS)
        return super()._ensure_connection(*args, **kwargs)


class Messaging(AMQP):
    """Celery's messaging over :class:`PatientConnection`."""

    Connection = PatientConnection


app = Celery("slackwater", amqp=Messaging)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

from backend import heartbeats  # noqa: E402, F401  (listens to signals)
from backend.supervision import readiness  # noqa: E402, F401  (listens to signals)
