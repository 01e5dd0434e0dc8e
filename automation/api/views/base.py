"""What the engine's views share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rest_framework.response import Response
from rest_framework.serializers import Serializer

from automation.api import errors
from automation.api.permissions import MayUseRuns
from pause_manager.api.base import ControlView

S = TypeVar("S", bound=Serializer[Any])


class AutomationView(ControlView):
    """A view over runs."""

    permission_classes = [MayUseRuns]

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return errors.handle

    def body(self, serializer: type[S]) -> dict[str, Any]:
        """The request's body as ``serializer`` takes it, else a ``ValidationError``."""
        return self._valid(serializer(data=self.request.data))

    def query(self, serializer: type[S]) -> dict[str, Any]:
        """The same for the query parameters."""
        return self._valid(serializer(data=self.request.query_params))

    @staticmethod
    def _valid(given: Serializer[Any]) -> dict[str, Any]:
        given.is_valid(raise_exception=True)
        found: dict[str, Any] = given.validated_data
        return found
