"""HTTP responses for the refusals of credits."""

from __future__ import annotations

from typing import Any

from rest_framework import status
from rest_framework.response import Response

from automation.api import errors as engine
from automation.contrib.credits.errors import (
    AccountNotFound,
    BookingNotFound,
    InvoiceNotFound,
    KeyReused,
    NoCredits,
    NoPdf,
    ProviderNotFound,
)
from automation.errors import AutomationError
from pause_manager.api.http import errors

_STATUS: dict[type[AutomationError], int] = {
    AccountNotFound: status.HTTP_404_NOT_FOUND,
    BookingNotFound: status.HTTP_404_NOT_FOUND,
    ProviderNotFound: status.HTTP_404_NOT_FOUND,
    InvoiceNotFound: status.HTTP_404_NOT_FOUND,
    NoPdf: status.HTTP_501_NOT_IMPLEMENTED,
    KeyReused: status.HTTP_409_CONFLICT,
    NoCredits: status.HTTP_409_CONFLICT,
}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Respond to refusals of credits with their status, to everything else as the engine does."""
    if isinstance(error, AutomationError) and type(error) in _STATUS:
        return errors.answer(_STATUS[type(error)], error.code, str(error))
    return engine.handle(error, context)
