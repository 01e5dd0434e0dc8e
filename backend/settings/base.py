"""Settings that every environment shares. Only this package reads the environment."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dj_database_url
from pythonjsonlogger.core import RESERVED_ATTRS

import pause_manager
from backend.api_docs import DESCRIPTION
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
#: Signs sessions. Required by `backend.settings.prod`; `dev` generates one in `DATA_DIR`.
SECRET_KEY = env.text("SECRET_KEY")
#: Host names under which the system is reached. Required by `backend.settings.prod`.
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS")
#: Origins of forms behind a TLS proxy, such as `https://slackwater.example`.
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

#: Apps with pipelines of your own; `up` remembers them in `DATA_DIR` ([pipelines](../howto/pipelines.md)).
OWN_APPS = own_apps.load(env.words("SLACKWATER_APPS"), DATA_DIR)
"""Apps with pipelines of your own."""
INSTALLED_APPS = [
    "backend.apps.BackendConfig",
    "backend.console",
    "pause_manager.console",
    "automation",
    "automation.contrib.content",
    "automation.contrib.credits",
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

#: PostgreSQL to use instead of the embedded server: `postgresql://user:password@host/name`.
EMBEDDED_POSTGRES = not env.text("DATABASE_URL")
#: Redis or Valkey (6.2 or later) to use instead of the embedded server: `redis://host:6379/0`.
EMBEDDED_REDIS = not env.text("REDIS_URL")

# Connections end with the request: under ASGI each would stay with a thread that may never serve again.
DATABASES = {
    "default": dj_database_url.parse(
        env.url("DATABASE_URL", LAYOUT.database_url, env.DATABASES, "postgresql://user:password@host/name"),
        #: Seconds that a database connection is reused between requests.
        conn_max_age=env.number("DATABASE_CONN_MAX_AGE", 0),
        conn_health_checks=True,
    )
}
# A database that does not complete connections must not hang its callers: libpq has no time limit by default.
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.url("REDIS_URL", LAYOUT.redis_url, env.BROKERS, "redis://host:6379/0")
#: Start of all Redis keys and channels. Two systems on one Redis need two.
REDIS_PREFIX = env.text("REDIS_PREFIX", "slackwater:")
CELERY_BROKER_URL = env.broker_url(REDIS_URL)

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTHENTICATION_BACKENDS = ["backend.lockout.backends.LockoutBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "console:sign-in"
LOGIN_REDIRECT_URL = "/"

#: Mail server for notices about credits ([low balances](../howto/credits.md#be-told-of-low-balances)). Unset: no mail.
EMAIL_HOST = env.text("EMAIL_HOST")
#: Port of the mail server.
EMAIL_PORT = env.number("EMAIL_PORT", 25, least=1)
#: Name for the mail server, if it asks for one.
EMAIL_HOST_USER = env.text("EMAIL_USER")
#: Password for the mail server, if it asks for one.
EMAIL_HOST_PASSWORD = env.text("EMAIL_PASSWORD")
#: Whether the mail server is asked for TLS by `STARTTLS`.
EMAIL_USE_TLS = env.switch("EMAIL_TLS", False)
#: Whether the connection to the mail server begins in TLS.
EMAIL_USE_SSL = env.switch("EMAIL_SSL", False)
#: Sender of mails, such as `Slackwater <billing@example.com>`.
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", "slackwater@localhost")
EMAIL_TIMEOUT = 10
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'dummy'}.EmailBackend"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["backend.formats"]

STATIC_URL = "/static/"
MEDIA_URL = "/media/"
MEDIA_ROOT = DATA_DIR / "media"
#: Where files are stored, if not in `DATA_DIR`: `s3://bucket/prefix?endpoint_url=…`, `file:///path?shared=1`
#: ([files](../howto/storage.md)).
_FILES = storage.files(env.text("STORAGE_URL"), MEDIA_ROOT)
STORAGE_PROBLEM = _FILES.problem
STORAGES: dict[str, dict[str, Any]] = {
    "default": _FILES.backend,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

#: How many of your proxies write `X-Forwarded-For` ([access](../howto/access.md)).
NUM_PROXIES = env.number("NUM_PROXIES", 0, least=0)
# Wrong passwords or tokens within `seconds`, and for how long none is admitted after the last of them.
LOCKOUT = {
    #: Wrong passwords for one account from one address before a lockout.
    "tries": env.number("LOCKOUT_TRIES", 5, least=1),
    #: Wrong passwords and tokens from one address before a lockout.
    "tries_per_address": env.number("LOCKOUT_TRIES_PER_ADDRESS", 20, least=1),
    #: How long a lockout lasts.
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
        #: Requests of an address that is not signed in.
        "anon": env.text("API_RATE_ANON", "60/min"),
        #: Requests of a user or agent.
        "user": env.text("API_RATE_USER", "3000/min"),
    },
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Slackwater",
    "DESCRIPTION": DESCRIPTION,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "backend.api_docs.arrange"],
    "SORT_OPERATIONS": False,
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "docExpansion": "none", "filter": True},
    "VERSION": pause_manager.__version__,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/",
    "COMPONENT_SPLIT_REQUEST": True,
    # Two sets of choices are called kind: of a hold, and of a rule of recurrence.
    "ENUM_NAME_OVERRIDES": {
        "RecurrenceEnum": "pause_manager.recurrence.KINDS",
        "ReasonCodeEnum": "pause_manager.api.reasons.CODES",
    },
}


def is_not_readyz(record: logging.LogRecord) -> bool:
    """False for the log lines of ``/readyz``: callers that poll it get the response, and the log need not repeat it."""
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
            #: `json` for structured logs ([logs](../operations/observability.md#logs)).
            "formatter": env.choice("LOG_FORMAT", ("line", "json")),
            "filters": ["not_readyz", "lost_processes", "context"],
        }
    },
    #: Level of the root logger.
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "httpx": {"level": "WARNING"},
        "mcp": {"level": "WARNING"},
        "statsd": {"level": "CRITICAL"},  # a lost count is not worth a line
    },
}

# Each app declares its options, units and defaults in its own conf.py; these override them.
PAUSE_MANAGER: dict[str, Any] = {
    "redis_url": REDIS_URL,
    "channel": f"{REDIS_PREFIX}control",
    "events_channel": f"{REDIS_PREFIX}events",
    "poll_interval_seconds": POLL_SECONDS,
    "policy": {"thresholds": {"pause_below": PAUSE_BELOW, "resume_above": min(1.0, round(PAUSE_BELOW + 0.1, 4))}},
    #: The name of this machine, the same in all of its containers. Unset: the first host name that its workers see
    #: ([machines](../operations/capacity.md#machines-and-containers)).
    "node": env.text("SLACKWATER_NODE"),
    "node_key_prefix": f"{REDIS_PREFIX}node:",
    "machine_key_prefix": f"{REDIS_PREFIX}machine:",
    "runtime_dir": str(DATA_DIR / "run"),
    #: Bearer token that opens `/metrics`.
    "metrics_token": env.text("METRICS_TOKEN"),
    #: Networks that may read `/metrics` while there is no token.
    "metrics_networks": tuple(env.words("METRICS_NETWORKS", "127.0.0.0/8,::1/128")),
    #: Where counters are also sent by UDP, such as `udp://host:8125/prefix`.
    "statsd_url": env.text("STATSD_URL"),
    #: A user's name: everyone who reaches the fleet's endpoints may use them, as that user. Only behind a proxy that
    #: authenticates.
    "open_to": env.text("FLEET_OPEN_TO"),
    "database_hint": "Is the system up? make up" if EMBEDDED_POSTGRES else "Is DATABASE_URL right, and its server up?",
}
#: `0` or `1`: what `up` and `prepare` set, as `manage.py capacity off` and `on` do. Unset: it stays as it is.
WATCH_CAPACITY: bool | None = env.switch("WATCH_CAPACITY") if env.text("WATCH_CAPACITY") else None
#: The process under which everything counts as ours. `manage.py up` sets it.
if env.text("SLACKWATER_ROOT_PID"):  # set by `manage.py up`
    PAUSE_MANAGER["own_root_pid"] = env.number("SLACKWATER_ROOT_PID", 0)
AUTOMATION: dict[str, Any] = {"progress_channel": f"{REDIS_PREFIX}progress"}

CREDITS: dict[str, Any] = {
    #: Signing secrets of the endpoint for webhooks at Stripe, such as `whsec_…`
    #: ([payments](../howto/credits.md#take-payments)).
    "stripe_secrets": tuple(env.words("STRIPE_WEBHOOK_SECRETS", "")),
    #: Signing secrets of the payment provider `dummy`, for tests. Anyone who has one can add credits.
    "dummy_secrets": tuple(env.words("DUMMY_WEBHOOK_SECRETS", "")),
    #: Who issues invoices; `\n` begins a line.
    "invoice_issuer": env.text("INVOICE_ISSUER").replace("\\n", "\n"),
    #: What else invoices say; `\n` begins a line.
    "invoice_note": env.text("INVOICE_NOTE").replace("\\n", "\n"),
}

#: Endpoint of the provider `openai` of the [content pipeline](../howto/content.md).
TEXT_PROVIDER_BASE_URL = env.text("TEXT_PROVIDER_BASE_URL")
#: Key for `TEXT_PROVIDER_BASE_URL`. It is sent to that address and to no other.
TEXT_PROVIDER_API_KEY = env.text("TEXT_PROVIDER_API_KEY")
#: Other hosts (`name` or `name:port`) that a run's `base_url` may name.
TEXT_PROVIDER_HOSTS = tuple(env.words("TEXT_PROVIDER_HOSTS", ""))

#: Token of the user or agent that `manage.py mcp` acts as ([assistants](../howto/mcp.md)).
MCP_TOKEN = env.text("SLACKWATER_MCP_TOKEN")
