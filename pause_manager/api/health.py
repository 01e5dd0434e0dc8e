"""``/api/v1/health/``: the health verdict."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager import health
from pause_manager.api.fleet import FleetView
from pause_manager.api.http import schema
from pause_manager.api.http.permissions import may_operate


class HealthFindingSerializer(serializers.Serializer[Any]):
    """One fact that answers a question."""

    level = serializers.ChoiceField(
        choices=["problem", "held", "note", "good"],
        help_text="`problem`: somebody must act. `held`: stopped on purpose, or waiting for room. "
        "`note`: worth a look. `good`: evidence that all is well.",
    )
    code = serializers.CharField(help_text="For machines; does not change.")
    sentence = serializers.CharField()
    cause = serializers.CharField(help_text="The likely cause; may be empty.")
    next_step = serializers.CharField(help_text="What to do or to look at next; may be empty.")
    since = serializers.DateTimeField(allow_null=True)
    detail = serializers.CharField(required=False, help_text="Names and errors; for operators of the fleet only.")


class HealthAnswerSerializer(serializers.Serializer[Any]):
    """The answer to one question."""

    question = serializers.ChoiceField(choices=list(health.QUESTIONS))
    answer = serializers.ChoiceField(
        choices=["yes", "no", "held", "unknown"], help_text="`unknown`: there is no evidence, as with no work."
    )
    sentence = serializers.CharField()
    findings = HealthFindingSerializer(many=True)


class HealthSerializer(serializers.Serializer[Any]):
    """The verdict."""

    is_ok = serializers.BooleanField(help_text="Whether nobody has to act.")
    sentence = serializers.CharField()
    checked_at = serializers.DateTimeField(help_text="By the database's clock.")
    answers = HealthAnswerSerializer(many=True)


class Health(FleetView):
    """The verdict, made when it is asked for."""

    @extend_schema(
        operation_id="show_health",
        summary="Say whether work is flowing, whether it is succeeding, and whether the figures are fresh",
        description="For each question the facts, the likely cause and the next step. It answers 200 whatever the "
        "verdict: for a probe of this process use `/healthz` and `/readyz`.",
        parameters=[schema.REQUEST_ID],
        responses=schema.answers({200: HealthSerializer}, *schema.READS, 404, 500),
        tags=["v1"],
    )
    def get(self, request: Request) -> Response:
        return Response(health.judge().as_dict(with_details=may_operate(request.user)))
