"""Somebody else's Django and Celery project, which installs ``pause_manager`` and nothing else of ours."""

from tests.foreign.celery import app as celery_app

__all__ = ["celery_app"]
