"""The shop's Celery app. ``task_cls`` is the one line that makes every task of the shop pausable."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop", task_cls="pause_manager.pausable:PausableTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
