"""The settings of the project: with nothing of ours if ``SHOP_PLAIN=1``."""

from __future__ import annotations

import os
from typing import Any

import dj_database_url

IS_PLAIN = bool(os.environ.get("SHOP_PLAIN"))

SECRET_KEY = "only-for-benchmarks-and-worthless-anywhere-else"
USE_TZ = True
INSTALLED_APPS = [] if IS_PLAIN else ["pause_manager"]
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = os.environ["SHOP_BROKER"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

PAUSE_MANAGER: dict[str, Any] = {
    "redis_url": os.environ["REDIS_URL"],
    "runtime_dir": os.environ["DATA_DIR"],
    "with_gpus": False,
    "capacity": False,
}
