"""A shop: a Django and Celery project that knows nothing of Slackwater's pipelines."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
