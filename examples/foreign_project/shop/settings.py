"""The shop's settings. What is there for ``pause_manager`` is marked."""

import os

from psycopg.conninfo import conninfo_to_dict

from pause_manager.schedule import BEAT_SCHEDULE  # pause_manager

SECRET_KEY = os.environ.get("SECRET_KEY", "for-the-example-only")
DEBUG = True
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "shop.urls"

INSTALLED_APPS = [
    "orders",
    "mails",
    "pause_manager",  # pause_manager
    "pause_manager.console",  # pause_manager: the pages
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
LOGIN_URL = "admin:login"  # pause_manager: its pages send to this one who is not signed in
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
_database = conninfo_to_dict(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": _database.pop("dbname"), "OPTIONS": _database}
}

REDIS_URL = os.environ["REDIS_URL"]
# Celery writes the URL of a socket its own way.
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CELERY_RESULT_BACKEND = CELERY_BROKER_URL
CELERY_TASK_ACKS_LATE = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE = {**BEAT_SCHEDULE}  # pause_manager, beside the shop's own entries

PAUSE_MANAGER = {"redis_url": REDIS_URL, "capacity": False}  # pause_manager
