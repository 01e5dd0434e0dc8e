"""The system check of the settings of credits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register

from automation.contrib.credits.conf import CreditsSettings, wrong_shares
from pause_manager.checks import check_declared

SHORTEST_SECRET = 16


@register()
def check_options(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Every option of ``CREDITS`` is known, of its type and within its range."""
    found = check_declared("CREDITS", CreditsSettings, "credits")
    if found:
        return found
    options = CreditsSettings(**getattr(django_settings, "CREDITS", {}))
    if not 1 <= options.margin <= 10:
        found.append(Error(f"CREDITS['margin'] expected 1 to 10, got: {options.margin!r}", id="credits.E001"))
    if why := wrong_shares(options.shares):
        found.append(Error(f"CREDITS['shares'] {why}", id="credits.E002"))
    for name in ("stripe_secrets", "dummy_secrets"):
        if not all(isinstance(secret, str) and len(secret) >= SHORTEST_SECRET for secret in getattr(options, name)):
            rule = f"texts of {SHORTEST_SECRET} characters or more"
            found.append(Error(f"CREDITS[{name!r}] expected {rule}.", id="credits.E003"))
    if options.dummy_secrets and not django_settings.DEBUG:
        found.append(
            Warning(
                "CREDITS['dummy_secrets'] is set: who has a secret can add credits without paying.",
                hint="Remove DUMMY_WEBHOOK_SECRETS where credits are worth money.",
                id="credits.W001",
            )
        )
    return found
