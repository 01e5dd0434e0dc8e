"""Parameters that many endpoints share, for the OpenAPI schema."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from pause_manager.api.schema import COMMAND, IDEMPOTENCY_KEY, REQUEST_ID

__all__ = ["COMMAND", "IDEMPOTENCY_KEY", "REQUEST_ID", "RUN_ID"]

RUN_ID = OpenApiParameter("run_id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="Id of a run.")
