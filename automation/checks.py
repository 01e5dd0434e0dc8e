"""System checks of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, register

from automation.conf import AutomationSettings
from pause_manager.settings_check import check_declared


@register()
def check_options(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Every option of ``AUTOMATION`` is known and of its type."""
    return check_declared("AUTOMATION", AutomationSettings, "automation")
