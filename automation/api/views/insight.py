"""What a run is doing: progress, stages, and why it waits."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from automation import progress
from automation.api import runs, schema
from automation.api.serializers.errors import READ, answers
from automation.api.serializers.insight import ProgressSerializer
from automation.api.views.base import AutomationView


class RunProgress(AutomationView):
    """Totals, rates and estimates of a run."""

    @extend_schema(
        operation_id="show_progress",
        summary="Show how far a run is",
        parameters=[schema.RUN_ID, schema.REQUEST_ID],
        responses=answers({200: ProgressSerializer}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = runs.find(request.user, run_id)
        snapshot = progress.snapshot(run) | {"status": runs.shown_status(run)}
        return Response(ProgressSerializer(snapshot).data)
