"""What many endpoints share in the OpenAPI schema: parameters, and how callers say who they are."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from automation.api.authentication import AgentAuthentication, NoAgents
from automation.api.serializers.compatible import RUN
from pause_manager.api.schema import COMMAND, IDEMPOTENCY_KEY, REQUEST_ID

__all__ = ["COMMAND", "IDEMPOTENCY_KEY", "REQUEST_ID", "RUN_ID", "WHOLE_RUN_ID"]

RUN_ID = OpenApiParameter("run_id", OpenApiTypes.STR, OpenApiParameter.PATH, description=f"{RUN}.")
WHOLE_RUN_ID = OpenApiParameter("run_id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="Id of a run.")


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
    """Nobody is let in by it, so there is nothing to tell."""

    target_class = NoAgents
    name: list[str] = []

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return []

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        return []
