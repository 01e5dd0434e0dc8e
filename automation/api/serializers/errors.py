"""The bodies of errors, and which of them an endpoint can answer."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from automation.reports.status import ALL as STATUSES
from pause_manager.api import schema
from pause_manager.api.schema import ErrorSerializer


class RefusalSerializer(ErrorSerializer):
    """The verb does not apply to the run as it is now. Nothing was changed."""

    status = serializers.ChoiceField(
        choices=STATUSES, required=False, help_text="The run's status now; absent when no single run was meant."
    )


_ANSWERS: dict[int, schema.Answer] = {
    **schema.ANSWERS,
    409: (RefusalSerializer, "It does not apply to the run as it is now; nothing was changed."),
}
READ = (400, 401, 403, 404, 429)
COMMAND = (*READ, 409, 411, 413, 415, 422)


def answers(success: dict[int, Any], *others: int) -> dict[int, Any]:
    """The answers of an endpoint for the OpenAPI schema: the good ones and the errors it can give."""
    return schema.answers(success, *others, table=_ANSWERS)
