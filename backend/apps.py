"""The composition root as a Django app, for its management commands."""

from django.apps import AppConfig


class BackendConfig(AppConfig):
    """Settings, URLs, health and ``manage.py up``."""

    name = "backend"
    verbose_name = "Slackwater"
