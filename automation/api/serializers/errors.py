"""The bodies of errors, and which of them an endpoint can answer."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from automation.status import ALL as STATUSES


class ErrorSerializer(serializers.Serializer[Any]):
    """Why a request was refused."""

    code = serializers.CharField(help_text="For machines; does not change.")
    message = serializers.CharField(help_text="For people; one sentence.")


class InvalidSerializer(ErrorSerializer):
    """What is wrong with a request."""

    fields = serializers.DictField(  # type: ignore[assignment]
        required=False, help_text="By field, the sentences about it; with code `invalid` only."
    )


class RefusalSerializer(ErrorSerializer):
    """The verb does not apply to the run as it is now. Nothing was changed."""

    status = serializers.ChoiceField(
        choices=STATUSES, required=False, help_text="The run's status now; absent when no single run was meant."
    )


_ANSWERS: dict[int, tuple[type[serializers.Serializer[Any]], str]] = {
    400: (InvalidSerializer, "The request is wrong; the sentence says what was expected."),
    401: (ErrorSerializer, "Nobody is signed in."),
    403: (ErrorSerializer, "The caller lacks the permission, or a session request lacks its CSRF token."),
    404: (ErrorSerializer, "There is none, or none that the caller may see."),
    409: (RefusalSerializer, "It does not apply to the run as it is now; nothing was changed."),
    411: (ErrorSerializer, "The body came in chunks, without its length."),
    413: (ErrorSerializer, "The body is too large."),
    415: (ErrorSerializer, "The body is of a type that is not taken."),
    422: (ErrorSerializer, "The Idempotency-Key was used before with another request."),
    429: (ErrorSerializer, "Too many requests; Retry-After says when to come again."),
}
READ = (400, 401, 403, 404, 429)
COMMAND = (*READ, 409, 411, 413, 415, 422)


def answers(success: dict[int, Any], *others: int) -> dict[int, Any]:
    """The answers of an endpoint for the OpenAPI schema: the good ones and the errors it can give."""
    errors = {code: OpenApiResponse(*_ANSWERS[code]) for code in sorted(others)}
    return {**success, **errors}
