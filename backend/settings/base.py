"""Settings that every environment shares. Only this package reads the environment."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dj_database_url
from pythonjsonlogger.core import RESERVED_ATTRS

import pause_manager
from backend.embedded import Layout
from backend.logs import is_not_of_a_lost_process
from backend.settings import environment as env
from backend.settings import own_apps, storage
from backend.settings.celery import *
from backend.settings.celery import PAUSE_BELOW, POLL_SECONDS

BASE_DIR = Path(__file__).resolve().parents[2]
DATA_DIR = env.data_dir(BASE_DIR)
LAYOUT = Layout(DATA_DIR)

DEBUG = False
SECRET_KEY = env.text("SECRET_KEY")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

OWN_APPS = own_apps.load(env.words("SLACKWATER_APPS"), DATA_DIR)
"""Apps with pipelines of your own."""
INSTALLED_APPS = [
    "backend.apps.BackendConfig",
    "backend.console",
    "automation",
    "automation.contrib.content",
    "automation.contrib.drill",
    "pause_manager",
    "backend.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    *OWN_APPS,
]

MIDDLEWARE = [
    "pause_manager.observability.request_id.middleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "backend.lockout.middleware.middleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "backend.urls"
ASGI_APPLICATION = "backend.asgi.application"
WSGI_APPLICATION = "backend.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

EMBEDDED_POSTGRES = not env.text("DATABASE_URL")
EMBEDDED_REDIS = not env.text("REDIS_URL")

# Connections are not kept between requests: under ASGI each would stay with a thread that may never serve again.
DATABASES = {
    "default": dj_database_url.parse(
        env.url("DATABASE_URL", LAYOUT.database_url, env.DATABASES, "postgresql://user:password@host/name"),
        conn_max_age=env.number("DATABASE_CONN_MAX_AGE", 0),
        conn_health_checks=True,
    )
}
# A database that swallows connections must not hang whoever asks: libpq's own default is to wait for ever.
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.url("REDIS_URL", LAYOUT.redis_url, env.BROKERS, "redis://host:6379/0")
REDIS_PREFIX = env.text("REDIS_PREFIX", "slackwater:")
CELERY_BROKER_URL = env.broker_url(REDIS_URL)

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTHENTICATION_BACKENDS = ["backend.lockout.backends.LockoutBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "console:sign-in"
LOGIN_REDIRECT_URL = "/"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["backend.formats"]

STATIC_URL = "/static/"
MEDIA_URL = "/media/"
MEDIA_ROOT = DATA_DIR / "media"
_FILES = storage.files(env.text("STORAGE_URL"), MEDIA_ROOT)
STORAGE_PROBLEM = _FILES.problem
STORAGES: dict[str, dict[str, Any]] = {
    "default": _FILES.backend,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# How many proxies of our own write `X-Forwarded-For`; with none, nobody is believed.
NUM_PROXIES = env.number("NUM_PROXIES", 0, least=0)
# Wrong passwords or tokens within so many seconds, and for how long none is admitted after the last of them.
LOCKOUT = {
    "tries": env.number("LOCKOUT_TRIES", 5, least=1),
    "tries_per_address": env.number("LOCKOUT_TRIES_PER_ADDRESS", 20, least=1),
    "seconds": env.number("LOCKOUT_SECONDS", 300, least=1),
}

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "automation.api.agents.authentication.NoAgents",
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": [
        "backend.lockout.throttles.AnonRate",
        "backend.lockout.throttles.UserRate",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": env.text("API_RATE_ANON", "60/min"),
        "user": env.text("API_RATE_USER", "3000/min"),
    },
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Slackwater",
    "DESCRIPTION": "Pausable pipelines and capacity-aware pausing for Celery fleets.",
    "VERSION": pause_manager.__version__,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/",
    "COMPONENT_SPLIT_REQUEST": True,
}


def is_not_readyz(record: logging.LogRecord) -> bool:
    """Whoever asks ``/readyz`` again and again gets the answer; the log need not repeat it."""
    return not (record.name == "django.request" and "/readyz" in record.getMessage())


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "backend.logs.Line"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "{levelname}{name}{message}",
            "style": "{",
            "timestamp": "at",
            "rename_fields": {"levelname": "level", "name": "logger"},
            "reserved_attrs": [*RESERVED_ATTRS, "request", "status_code", "server_time", "data"],
        },
    },
    "filters": {
        "not_readyz": {"()": "django.utils.log.CallbackFilter", "callback": is_not_readyz},
        "lost_processes": {"()": "django.utils.log.CallbackFilter", "callback": is_not_of_a_lost_process},
        "context": {"()": "pause_manager.observability.log_context.AddContext"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": env.choice("LOG_FORMAT", ("line", "json")),
            "filters": ["not_readyz", "lost_processes", "context"],
        }
    },
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "httpx": {"level": "WARNING"},
        "mcp": {"level": "WARNING"},
        "statsd": {"level": "CRITICAL"},  # a count that is lost is not worth a line
    },
}

# Each app declares its options, units and defaults in its own conf.py; these override them.
PAUSE_MANAGER: dict[str, Any] = {
    "redis_url": REDIS_URL,
    "channel": f"{REDIS_PREFIX}control",
    "events_channel": f"{REDIS_PREFIX}events",
    "poll_interval_seconds": POLL_SECONDS,
    "policy": {"pause_below": PAUSE_BELOW, "resume_above": min(1.0, round(PAUSE_BELOW + 0.1, 4))},
    "node": env.text("SLACKWATER_NODE"),
    "node_key_prefix": f"{REDIS_PREFIX}node:",
    "machine_key_prefix": f"{REDIS_PREFIX}machine:",
    "runtime_dir": str(DATA_DIR / "run"),
    "metrics_token": env.text("METRICS_TOKEN"),
    "metrics_networks": tuple(env.words("METRICS_NETWORKS", "127.0.0.0/8,::1/128")),
    "statsd_url": env.text("STATSD_URL"),
    "open_to": env.text("FLEET_OPEN_TO"),
    "database_hint": "Is the system up? make up" if EMBEDDED_POSTGRES else "Is DATABASE_URL right, and its server up?",
}
# `up` and `prepare` write it down for the whole system; unset, it stays as it is. See `manage.py capacity on|off`.
WATCH_CAPACITY: bool | None = env.switch("WATCH_CAPACITY") if env.text("WATCH_CAPACITY") else None
if env.text("SLACKWATER_ROOT_PID"):  # set by `manage.py up`
    PAUSE_MANAGER["own_root_pid"] = env.number("SLACKWATER_ROOT_PID", 0)
AUTOMATION: dict[str, Any] = {"progress_channel": f"{REDIS_PREFIX}progress"}

# Where the content pipeline's provider `openai` calls; the key is sent to this address and to no other.
TEXT_PROVIDER_BASE_URL = env.text("TEXT_PROVIDER_BASE_URL")
TEXT_PROVIDER_API_KEY = env.text("TEXT_PROVIDER_API_KEY")
# Hosts (`name` or `name:port`) that a run's parameter `base_url` may name besides.
TEXT_PROVIDER_HOSTS = tuple(env.words("TEXT_PROVIDER_HOSTS", ""))

# Who `manage.py mcp` acts as, unless it is told a user: the token of a user or of an agent.
MCP_TOKEN = env.text("SLACKWATER_MCP_TOKEN")
