"""System checks: what must be true before anything here may run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from pause_manager.capacity.policy import InvalidPolicy, Policy
from pause_manager.conf import PauseManagerSettings, settings
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
    errors = check_declared("PAUSE_MANAGER", PauseManagerSettings, "pause_manager")
    return errors or _check_policies(settings())


def _check_policies(options: PauseManagerSettings) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for pipeline in ("", *options.pipeline_policies):
        try:
            options.policy_of(pipeline)
        except (InvalidPolicy, TypeError, AttributeError) as error:
            where = f"PAUSE_MANAGER['pipeline_policies'][{pipeline!r}]" if pipeline else "PAUSE_MANAGER['policy']"
            known = ", ".join(field.name for field in fields(Policy))
            errors.append(Error(f"{where}: {error}", hint=f"Options: {known}", id="pause_manager.E014"))
    return errors
