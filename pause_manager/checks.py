"""System checks: what must be true before anything here may run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections


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
