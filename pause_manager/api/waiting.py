"""``/api/v1/waiting/``: what waits for what, now and minute by minute."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager.api.fleet import FleetView
from pause_manager.api.http import schema
from pause_manager.api.http.strict import StrictSerializer
from pause_manager.models import WaitingSample
from pause_manager.observability import waiting


class WaitingQuery(StrictSerializer):
    """From when on."""

    since = serializers.DateTimeField(
        required=False, help_text="Include the history from this time on; if left out, there is none."
    )


class WaitingCountSerializer(serializers.Serializer[Any]):
    """How much waits for one reason."""

    work = serializers.CharField(help_text="`runs` or `tasks`; `all` with reason `all` is the sum of a minute.")
    reason = serializers.CharField(help_text="The code of the first reason.")
    count = serializers.IntegerField()


class WaitingSampleSerializer(serializers.ModelSerializer[WaitingSample]):
    """How much waited for one reason in a minute."""

    class Meta:
        model = WaitingSample
        fields: ClassVar = ["minute", "work", "reason", "count"]


class WaitingSerializer(serializers.Serializer[Any]):
    """How much waits now, and how much waited earlier."""

    now = WaitingCountSerializer(many=True)
    history = WaitingSampleSerializer(many=True)
    is_complete = serializers.BooleanField(help_text=f"Whether these are all rows, of at most {waiting.MOST_ROWS:,}.")


class Waiting(FleetView):
    """What waits."""

    @extend_schema(
        operation_id="show_waiting",
        summary="Show how many runs and tasks wait, by the first reason",
        description="Counts over all accounts. The history has one sample per minute, newest first, for "
        "`history_days`. A minute without a row with `all` as work and reason has no sample.",
        parameters=[WaitingQuery, schema.REQUEST_ID],
        responses=schema.answers({200: WaitingSerializer}, *schema.READS, 404),
        tags=["v1"],
    )
    def get(self, request: Request) -> Response:
        query = self.query(WaitingQuery)
        rows = waiting.history(query["since"]) if "since" in query else []
        found = sorted(waiting.counts().items())
        told = {
            "now": [{"work": work, "reason": reason, "count": count} for (work, reason), count in found],
            "history": WaitingSampleSerializer(rows, many=True).data,
            "is_complete": len(rows) < waiting.MOST_ROWS,
        }
        return Response(told)
