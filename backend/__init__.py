"""The composition root: settings, URLs, the Celery app, embedded services and the operator console."""

from backend.celery import app as celery_app

__all__ = ["celery_app"]
