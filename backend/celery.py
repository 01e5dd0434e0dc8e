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
# A worker would have Django's checks load every URL, and so all of the web; `manage.py check`, `up` and `prepare` do.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

# Celery warns root of pickled messages; only JSON is accepted here.
warnings.filterwarnings("ignore", category=SecurityWarning)

LONGEST_RECONNECT_SECONDS = 5


class PatientConnection(Connection):
    """Never waits longer than five seconds to look for the broker again, however long it was away."""

    def _ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("interval_max", LONGEST_RECONNECT_SECONDS)
        return super()._ensure_connection(*args, **kwargs)


class Messaging(AMQP):
    """Celery's messaging over :class:`PatientConnection`."""

    Connection = PatientConnection


app = Celery("slackwater", amqp=Messaging)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

from backend import readiness, ticks  # noqa: E402, F401  (they listen to signals)
