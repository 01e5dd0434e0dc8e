"""The composition root as a Django app, for its management commands; and the admin, for the web process only."""

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

    def ready(self) -> None:
        import_module("backend.checks")


class AdminConfig(SimpleAdminConfig):
    """Django's admin without autodiscovery: ``backend.urls``, which workers never load, registers the models."""

    default_site = "backend.admin_site.SlackwaterAdminSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(_check_admin, checks.Tags.admin)


def _check_admin(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Run Django's check of the registered classes, after registering them."""
    import_module(settings.ROOT_URLCONF)
    return list(check_admin_app(app_configs, **kwargs))
