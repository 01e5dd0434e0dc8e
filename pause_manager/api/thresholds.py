"""``/api/v1/nodes/{node}/threshold/``: an operator's own threshold of a node."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager.api.fleet import FleetView
from pause_manager.api.http import schema
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.strict import ReasonSerializer
from pause_manager.api.nodes import check_name
from pause_manager.nodes import operator_threshold

NODE = OpenApiParameter("node", str, OpenApiParameter.PATH, description="Name of a node.")


class ThresholdSerializer(ReasonSerializer):
    """The share, 0 to 1, that must be free on the node for new work; null: that of the settings."""

    pause_below = serializers.FloatField(min_value=0, max_value=1, allow_null=True)


class NodeThresholdSerializer(serializers.Serializer[Any]):
    """The threshold that is in force for a node."""

    node = serializers.CharField()
    pause_below = serializers.FloatField(allow_null=True)


class NodeThreshold(FleetView):
    """The threshold of one node."""

    @extend_schema(
        operation_id="set_node_threshold",
        summary="Set the threshold below which a node takes no new work, or take it away",
        description="It wins over the settings, over a pipeline's policy and over the adaptive mode.",
        parameters=[NODE, *schema.COMMAND],
        request=ThresholdSerializer,
        responses=schema.answers({200: NodeThresholdSerializer}, *schema.COMMANDS, 404),
        tags=["v1"],
    )
    @idempotent
    def post(self, request: Request, node: str) -> Response:
        given = self.body(ThresholdSerializer)
        try:
            operator_threshold.set_own(check_name(node), given["pause_below"], actor=self.actor, reason=given["reason"])
        except operator_threshold.NodeUnknown as error:
            raise exceptions.NotFound(str(error), code=error.code) from None
        return Response({"node": node, "pause_below": given["pause_below"]})
