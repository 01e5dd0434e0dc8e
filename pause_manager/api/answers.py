"""The bodies of errors, and which of them an endpoint can answer, for the OpenAPI schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

REQUEST_ID = OpenApiParameter(
    "X-Request-ID",
    str,
    OpenApiParameter.HEADER,
    description="Kept with the events that the request causes and sent back; made up if left out.",
)


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

READS: dict[int, Answer] = {
    400: (InvalidSerializer, "The request is wrong; the sentence says what was expected."),
    401: (ErrorSerializer, "Nobody is signed in."),
    403: (ErrorSerializer, "The caller lacks the permission, or a session request lacks its CSRF token."),
    404: (ErrorSerializer, "There is none, or none that the caller may see."),
    429: (ErrorSerializer, "Too many requests; Retry-After says when to come again."),
}


def answers(success: dict[Any, Any], errors: Mapping[int, Answer] = READS) -> dict[Any, Any]:
    """The answers of an endpoint: the good ones, and the errors it can give."""
    return {**success, **{code: OpenApiResponse(*errors[code]) for code in sorted(errors)}}
