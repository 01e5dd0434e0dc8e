"""Parameters that many endpoints share, for the OpenAPI schema."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from pause_manager.api.answers import REQUEST_ID

__all__ = ["COMMAND", "IDEMPOTENCY_KEY", "REQUEST_ID", "RUN_ID"]

RUN_ID = OpenApiParameter("run_id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="Id of a run.")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="1 to 200 visible characters. A repeat within 24 hours by the same caller gets the first answer "
    "(with `Idempotency-Replayed: true`) and changes nothing; the same key with another request is refused with 422.",
)
COMMAND = [IDEMPOTENCY_KEY, REQUEST_ID]
