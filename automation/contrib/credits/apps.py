"""The app ``credits``: it answers the engine's questions about starts and items."""

from django.apps import AppConfig


class CreditsConfig(AppConfig):
    name = "automation.contrib.credits"
    label = "credits"
    verbose_name = "Credits & Billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from automation.contrib.credits import allowance, card, checks, starting  # noqa: F401  (they register themselves)
