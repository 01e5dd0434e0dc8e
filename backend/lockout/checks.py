"""A system check for proxies that make all callers look alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks


def check_proxies(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Report a proxy without ``NUM_PROXIES``: behind it, the wrong passwords of one caller lock out all others."""
    if settings.SECURE_PROXY_SSL_HEADER is None or settings.NUM_PROXIES:
        return []
    message = "BEHIND_TLS_PROXY is set and NUM_PROXIES is 0: all callers have the address of the proxy."
    hint = "Set NUM_PROXIES to the number of proxies that write X-Forwarded-For, usually 1."
    return [checks.Warning(message, hint=hint, id="lockout.W001")]
