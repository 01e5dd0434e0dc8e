"""Parameters, errors and authentication that endpoints share in the OpenAPI schema."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from automation.api.agents.authentication import AgentAuthentication, NoAgents
from automation.reports.status import ALL as STATUSES
from pause_manager.api.http import schema as shared
from pause_manager.api.http.schema import COMMAND as COMMAND_PARAMETERS
from pause_manager.api.http.schema import IDEMPOTENCY_KEY, REQUEST_ID, ErrorSerializer

__all__ = [
    "COMMAND_PARAMETERS",
    "IDEMPOTENCY_KEY",
    "REQUEST_ID",
    "RUN",
    "RUN_ID",
    "WHOLE_RUN_ID",
    "answers",
]

RUN = "Id of a run, its first 4 or more digits, or `latest`"

RUN_ID = OpenApiParameter("run_id", OpenApiTypes.STR, OpenApiParameter.PATH, description=f"{RUN}.")
WHOLE_RUN_ID = OpenApiParameter("run_id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="Id of a run.")


class RefusalSerializer(ErrorSerializer):
    """The verb does not apply to the run as it is now. Nothing was changed."""

    status = serializers.ChoiceField(
        choices=STATUSES, required=False, help_text="The run's status now; absent when no single run was meant."
    )


_ANSWERS: dict[int, shared.Answer] = {
    **shared.ANSWERS,
    409: (RefusalSerializer, "It does not apply to the run as it is now; nothing was changed."),
}
READ = (400, 401, 403, 404, 429)
COMMAND = (*READ, 409, 411, 413, 415, 422)


def answers(success: dict[int, Any], *others: int) -> dict[int, Any]:
    """The responses of an endpoint for the OpenAPI schema: successes and the errors it can return."""
    return shared.answers(success, *others, table=_ANSWERS)


class AgentScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = AgentAuthentication
    name = "agentAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Agent <token>`, or `Bearer <token>`",
        }


class NoAgentsScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Absent from the schema: it only refuses."""

    target_class = NoAgents
    name: list[str] = []

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return []

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        return []
