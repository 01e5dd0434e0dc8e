"""Errors as JSON: ``{"code", "message", …}``, a code for machines and a sentence for people."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response

from pause_manager.errors import IdempotencyConflict, PauseManagerError

logger = logging.getLogger("pause_manager.api")


class BodyTooLarge(exceptions.APIException):
    """The body is larger than the view takes."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body_too_large"


class LengthRequired(exceptions.APIException):
    """The body came without its length, which the parsers need."""

    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_code = "length_required"
    default_detail = "Cannot read the request: expected a Content-Length with its body, got a chunked one."


def answer(status_code: int, code: str, message: str, **more: Any) -> Response:
    """One error in the form that all have."""
    return Response({"code": code, "message": message, **more}, status=status_code)


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to any exception of a view; one nobody expected is logged and answered 500 without details."""
    error = _translated(error)
    if isinstance(error, PauseManagerError):
        is_reuse = isinstance(error, IdempotencyConflict)
        code = status.HTTP_422_UNPROCESSABLE_ENTITY if is_reuse else status.HTTP_400_BAD_REQUEST
        return answer(code, error.code, str(error))
    if isinstance(error, exceptions.ValidationError):
        fields = error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
        return answer(error.status_code, "invalid", _first_sentence(fields), fields=fields)
    if isinstance(error, exceptions.APIException):
        code_text = error.get_codes()
        response = answer(error.status_code, code_text if isinstance(code_text, str) else "error", str(error.detail))
        if (auth_header := getattr(error, "auth_header", None)) is not None:
            response.headers["WWW-Authenticate"] = auth_header
        if (wait := getattr(error, "wait", None)) is not None:
            response.headers["Retry-After"] = str(int(wait))
        return response
    got_request_exception.send(sender=None, request=context["request"]._request)
    request_id = context["view"].request_id
    logger.exception("Request %s failed.", request_id, exc_info=error)
    message = "Something went wrong on the server; the request id leads to its log."
    return answer(status.HTTP_500_INTERNAL_SERVER_ERROR, "internal_error", message, request_id=request_id)


def _translated(error: Exception) -> Exception:
    if isinstance(error, Http404):
        return exceptions.NotFound()
    if isinstance(error, DjangoPermissionDenied):
        return exceptions.PermissionDenied()
    if isinstance(error, RequestDataTooBig):
        return BodyTooLarge(f"Cannot read the request: {error}")
    if isinstance(error, SuspiciousOperation):
        return exceptions.ParseError(f"Cannot read the request: {error}")
    return error


def _first_sentence(fields: Any, name: str = "") -> str:
    """The first of nested field errors as ``field: sentence``."""
    while not isinstance(fields, str):
        if isinstance(fields, dict):
            key, fields = next(iter(fields.items()))
            name = name if key == "non_field_errors" else f"{name}.{key}" if name else str(key)
        else:
            fields = fields[0] if fields else "Invalid."
    return f"{name}: {fields}" if name else fields
