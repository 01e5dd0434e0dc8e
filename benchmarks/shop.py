"""Somebody's Django and Celery project with a task that does nothing: pausable, or Celery's own (``SHOP_PLAIN=1``)."""

from __future__ import annotations

import os

from celery import Celery

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.shop_settings"

PAUSABLE = "pause_manager.pausable:PausableTask"

app = Celery("shop", task_cls="celery:Task" if os.environ.get("SHOP_PLAIN") else PAUSABLE)
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="shop.noop")
def noop(n: int) -> int:
    """Do nothing with ``n``."""
    return n
