"""``/api/v1/capacity/``: what the fleet has left."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager import manager
from pause_manager.api import nodes
from pause_manager.api.http import schema
from pause_manager.api.pause_queue import EntryView
from pause_manager.nodes import report, watching

NODE_ID = OpenApiParameter("agent_id", str, OpenApiParameter.PATH, description="Name of a node.")


class VerdictSerializer(serializers.Serializer[Any]):
    """Whether a new loop of a stage would have to wait now, and why."""

    pipeline = serializers.CharField()
    stage = serializers.CharField()
    should_pause = serializers.BooleanField()
    code = serializers.CharField()
    sentence = serializers.CharField()
    figures = serializers.DictField(help_text="Figures behind the verdict.")


CapacitySerializer = inline_serializer(
    "Capacity",
    {
        "is_watched": serializers.BooleanField(help_text="Whether capacity is checked before work starts."),
        "nodes": nodes.NodeSerializer(many=True),
        "verdicts": VerdictSerializer(many=True),
    },
)


class Capacity(EntryView):
    """The fleet."""

    @extend_schema(
        operation_id="show_capacity",
        summary="Show nodes, GPUs, shares and reservations, and whether new work of each stage would wait",
        parameters=[schema.REQUEST_ID],
        responses=schema.answers({200: CapacitySerializer}, *schema.READS, 404),
    )
    def get(self, request: Request) -> Response:
        return Response({"is_watched": watching.is_watched(), "nodes": report.shown(), "verdicts": _verdicts()})


def _verdicts() -> list[dict[str, Any]]:
    return [{"pipeline": kind.pipeline, "stage": kind.stage, **vars(verdict)} for kind, verdict in manager.verdicts()]


class NodeCapacity(EntryView):
    """One node."""

    @extend_schema(
        operation_id="show_node_capacity",
        summary="Show the capacity of one node",
        parameters=[NODE_ID, schema.REQUEST_ID],
        responses=schema.answers({200: nodes.NodeSerializer}, *schema.READS, 404),
    )
    def get(self, request: Request, agent_id: str) -> Response:
        for found in report.shown(nodes.check_name(agent_id)):
            return Response(found)
        raise exceptions.NotFound(f"Cannot find node {agent_id}: none of that name was seen within the last hour.")


class AvailableCapacity(EntryView):
    """The nodes that have room."""

    @extend_schema(
        operation_id="list_available_nodes",
        summary="List the online nodes that have so much room",
        parameters=[nodes.NodeQuery, schema.REQUEST_ID],
        responses=schema.answers({200: nodes.NodeSerializer(many=True)}, *schema.READS, 404),
    )
    def get(self, request: Request) -> Response:
        query = self.query(nodes.NodeQuery)
        return Response(report.matching(report.shown(), query))
