"""Base of the engine's views, and the view of unknown addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import errors
from automation.api.permissions import MayUseRuns
from pause_manager.api.http.base import ControlView


class AutomationView(ControlView):
    """A view over runs."""

    permission_classes = [MayUseRuns]

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return errors.handle


@extend_schema(exclude=True)
class Unknown(ControlView):
    """Responds 404 to any method."""

    authentication_classes = []
    permission_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(f"Cannot find {request.path[:200]}: there is no such endpoint; see /api/docs/.")
