"""The providers of payments that are set up: those with a secret."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automation.contrib.credits import conf
from automation.contrib.credits.errors import ProviderNotFound
from automation.contrib.credits.payments import dummy, stripe
from automation.contrib.credits.payments.notice import Notice


@dataclass(frozen=True)
class Provider:
    """``read`` makes a notice of a body whose signature, in ``header``, is of one of ``secrets``."""

    name: str
    header: str
    read: Callable[[bytes], Notice]
    secrets: Sequence[str]


def names() -> list[str]:
    """Of the providers that are set up."""
    return [one.name for one in _all() if one.secrets]


def find(name: str) -> Provider:
    """The provider, if it is set up. Raises ``ProviderNotFound``."""
    for one in _all():
        if one.name == name and one.secrets:
            return one
    raise ProviderNotFound(name)


def _all() -> tuple[Provider, ...]:
    settings = conf.settings()
    return (
        Provider("stripe", stripe.HEADER, stripe.read, settings.stripe_secrets),
        Provider("dummy", dummy.HEADER, dummy.read, settings.dummy_secrets),
    )
