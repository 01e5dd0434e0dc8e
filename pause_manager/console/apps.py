"""The console of the pause manager as a Django app of its own: a project that has its own pages leaves it out."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """Pages for people: the fleet, and whatever other apps register."""

    name = "pause_manager.console"
    label = "pause_manager_console"
    verbose_name = "Console of the pause manager"

    def ready(self) -> None:
        # They read models.
        from pause_manager.console import navigation  # noqa: F401
