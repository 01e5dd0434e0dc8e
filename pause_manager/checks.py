"""System checks: what must be true before anything here may run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from pause_manager.conf import PauseManagerSettings
from pause_manager.settings_check import check_declared


@register(Tags.models)
def check_database_engine(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """PostgreSQL only: row locks with SKIP LOCKED, advisory locks and database time are what a pause rests on."""
    return [
        Error(
            f"Cannot use {connection.vendor} for database {connection.alias!r}: pause_manager needs PostgreSQL.",
            hint='Set DATABASES["default"]["ENGINE"] to "django.db.backends.postgresql", '
            "for example with DATABASE_URL=postgresql://user@host/name.",
            id="pause_manager.E001",
        )
        for connection in connections.all()
        if connection.alias == "default" and connection.vendor != "postgresql"
    ]


@register()
def check_options(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Every option of ``PAUSE_MANAGER`` is known and of its type."""
    return check_declared("PAUSE_MANAGER", PauseManagerSettings, "pause_manager")
