"""The operator console as a Django app."""

from django.apps import AppConfig
from django.core import checks

from backend.lockout.checks import check_proxies


class ConsoleConfig(AppConfig):
    """Pages for people: the list of runs, one run with its live card, the start of a run, sign-in."""

    name = "backend.console"
    label = "console"
    verbose_name = "Console"

    def ready(self) -> None:
        # They read models.
        from backend.console import navigation  # noqa: F401

        checks.register(check_proxies, checks.Tags.security)
