"""Shared parts of the OpenAPI schema: headers, error bodies, and which errors an endpoint can return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

REQUEST_ID = OpenApiParameter(
    "X-Request-ID",
    str,
    OpenApiParameter.HEADER,
    description="Id that is stored with the events of the request and sent back; generated if left out.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,200}$"},
    OpenApiParameter.HEADER,
    description="1 to 200 visible characters. A repeat within 24 hours by the same caller gets the first answer "
    "(with `Idempotency-Replayed: true`) and changes nothing; the same key with another request is refused with 422.",
)
COMMAND = [IDEMPOTENCY_KEY, REQUEST_ID]


class ErrorSerializer(serializers.Serializer[Any]):
    """Why a request was refused."""

    code = serializers.CharField(help_text="For machines; does not change.")
    message = serializers.CharField(help_text="For people; one sentence.")


class InvalidSerializer(ErrorSerializer):
    """What is wrong with a request."""

    fields = serializers.DictField(  # type: ignore[assignment]
        required=False, help_text="By field, the sentences about it; with code `invalid` only."
    )


Answer = tuple[type[serializers.Serializer[Any]], str]

ANSWERS: dict[int, Answer] = {
    400: (InvalidSerializer, "The request is wrong; the sentence says what was expected."),
    401: (ErrorSerializer, "Nobody is signed in."),
    403: (ErrorSerializer, "The caller lacks the permission, or a session request lacks its CSRF token."),
    404: (ErrorSerializer, "There is none, or none that the caller may see."),
    409: (ErrorSerializer, "It does not apply now; nothing was changed."),
    411: (ErrorSerializer, "The body came in chunks, without its length."),
    413: (ErrorSerializer, "The body is too large."),
    415: (ErrorSerializer, "The body is of a type that is not taken."),
    422: (ErrorSerializer, "The Idempotency-Key was used before with another request."),
    429: (ErrorSerializer, "Too many requests; Retry-After says when to come again."),
    500: (ErrorSerializer, "Something went wrong on the server; nothing was changed."),
}
READS = (400, 401, 403, 429)
COMMANDS = (*READS, 409, 411, 413, 415, 422)


def answers(success: dict[int, Any], *others: int, table: Mapping[int, Answer] = ANSWERS) -> dict[int, Any]:
    """The answers of an endpoint for the OpenAPI schema: the good ones and the errors (of ``table``) it can give."""
    errors = {code: OpenApiResponse(*table[code]) for code in sorted(others)}
    return {**success, **errors}
