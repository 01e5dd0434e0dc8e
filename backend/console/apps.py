"""The operator console as a Django app."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """Pages for people: the runs, one run with its live card, sign-in."""

    name = "backend.console"
    label = "console"
    verbose_name = "Console"
