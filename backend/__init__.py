"""The composition root: settings, URLs, the Celery app, embedded servers and the operator console."""

from backend.celery import app as celery_app

__all__ = ["celery_app"]
