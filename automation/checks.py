"""System checks of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import current_app
from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning, register

from automation.conf import AutomationSettings
from pause_manager.checks import check_declared

PREFORK = ("prefork", "processes")
"""Celery's names of the pool whose processes can be killed one by one."""


@register()
def check_options(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Every option of ``AUTOMATION`` is known and of its type."""
    return check_declared("AUTOMATION", AutomationSettings, "automation")


@register()
def check_pool(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """A hanging item can be ended only where each loop has a process of its own."""
    pool = current_app.conf.worker_pool
    if pool in PREFORK:
        return []
    return [
        Warning(
            f"An item that hangs cannot be ended in workers whose pool is {pool!r}: it fails after item_timeout, and "
            "its place is lost until the worker restarts.",
            hint="Let workers of stages use the prefork pool (worker_pool = 'prefork').",
            id="automation.W001",
        )
    ]
