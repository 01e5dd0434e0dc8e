"""The composition root as a Django app, for its management commands; and the admin, which only the web loads."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class BackendConfig(AppConfig):
    """Settings, URLs, health and ``manage.py up``."""

    name = "backend"
    verbose_name = "Slackwater"


class AdminConfig(SimpleAdminConfig):
    """Registers no model when a process starts: ``backend.urls`` does, which workers never load."""

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(_check_admin, checks.Tags.admin)


def _check_admin(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Django's check of the registered classes, once they are registered."""
    import_module(settings.ROOT_URLCONF)
    return list(check_admin_app(app_configs, **kwargs))
