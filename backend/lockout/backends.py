"""An authentication backend in front of the others: attempts over the limit reach none of them."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest

from backend.lockout import address
from backend.lockout.guard import Guard


class LockoutBackend:
    """Authenticates nobody. Over the limit it raises ``PermissionDenied``, so that Django tries no other backend."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        """Count the attempt. Over the limit, ``request.lockout_seconds`` is the time until the next one is admitted."""
        name = credentials.get("username") or credentials.get(get_user_model().USERNAME_FIELD)
        if request is None or not isinstance(name, str):
            return
        guard = Guard(address=address.of(request), account=name, channel=_channel(request))
        if wait := guard.admit():
            request.lockout_seconds = wait  # type: ignore[attr-defined]
            raise PermissionDenied
        request.lockout_guard = guard  # type: ignore[attr-defined]

    async def aauthenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        await sync_to_async(self.authenticate)(request, **credentials)


def _channel(request: HttpRequest) -> str:
    return "admin" if request.path.startswith("/admin/") else "console"


@receiver(user_login_failed)
def _failed(sender: object, request: HttpRequest | None = None, **kwargs: Any) -> None:
    guard: Guard | None = getattr(request, "lockout_guard", None)
    if guard is not None:
        guard.failed()


@receiver(user_logged_in)
def _succeeded(sender: object, request: HttpRequest | None = None, **kwargs: Any) -> None:
    guard: Guard | None = getattr(request, "lockout_guard", None)
    if guard is not None:
        guard.succeeded()
