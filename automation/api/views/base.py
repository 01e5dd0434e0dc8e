"""What the engine's views share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework.response import Response

from automation.api import errors
from automation.api.permissions import MayUseRuns
from pause_manager.api.base import ControlView


class AutomationView(ControlView):
    """A view over runs."""

    permission_classes = [MayUseRuns]

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return errors.handle
