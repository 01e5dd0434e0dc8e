"""Whatever is not there, in the form that all errors have."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from pause_manager.api.base import ControlView


@extend_schema(exclude=True)
class Unknown(ControlView):
    """Answers 404 to any method."""

    authentication_classes = []
    permission_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(f"Cannot find {request.path[:200]}: there is no such endpoint; see /api/docs/.")
