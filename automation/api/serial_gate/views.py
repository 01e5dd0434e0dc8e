"""``/api/v1/serial-gate/``: park a run in its lane, and freeze a lane."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.runs import selection
from automation.api.runs.serializers import RunSerializer
from automation.api.runs.views import Verb, answer_with
from automation.api.schema import COMMAND, answers
from automation.runs import freezes, lifecycle
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.strict import REASON_LENGTH, ReasonSerializer, StrictSerializer


class WorkItemQuery(StrictSerializer):
    work_item = serializers.CharField(max_length=64, help_text=f"{schema.RUN}.")


class LaneQuery(StrictSerializer):
    lane = serializers.CharField(max_length=60, help_text="Name of a lane: the slug of its site.")


class FreezeSerializer(StrictSerializer):
    """Why a lane is frozen."""

    reason = serializers.CharField(
        max_length=REASON_LENGTH, help_text="Shown with everything that waits for it, and kept in the audit trail."
    )


class FrozenLaneSerializer(serializers.Serializer[Any]):
    """A lane, and whether it is frozen."""

    lane = serializers.CharField()
    frozen = serializers.BooleanField()
    frozen_reason = serializers.CharField(allow_null=True)
    frozen_at = serializers.DateTimeField(allow_null=True)
    frozen_by = serializers.CharField(allow_null=True)


def _run_verb(name: str, verb: Verb, summary: str, description: str) -> type[AutomationView]:
    class ParkingVerb(AutomationView):
        @extend_schema(
            operation_id=f"serial_gate_{name}",
            summary=summary,
            description=description,
            parameters=[WorkItemQuery, *schema.COMMAND_PARAMETERS],
            request=ReasonSerializer,
            responses=answers({200: RunSerializer}, *COMMAND),
        )
        @idempotent
        def post(self, request: Request) -> Response:
            run = selection.find(request.user, self.query(WorkItemQuery)["work_item"])
            changed = verb(run.pk, actor=self.actor, **self.body(ReasonSerializer))
            return answer_with(request, changed.pk)

    return ParkingVerb


Park = _run_verb(
    "pause",
    lifecycle.pause,
    "Park a run",
    "Nothing of it starts until it is resumed; in a lane with the policy `skip_parked` the next run takes its place. "
    "Parking it twice changes nothing and keeps the first one's time.",
)
Unpark = _run_verb(
    "resume",
    lifecycle.resume,
    "Resume a parked run",
    "It takes its place in the lane again, and waits for a run that has taken it meanwhile. A run that nobody has "
    "parked answers 409.",
)


class Freeze(AutomationView):
    """Freeze a lane."""

    @extend_schema(
        operation_id="freeze_lane",
        summary="Freeze a lane",
        description="Nothing of the lane starts, no run and no item, until somebody unfreezes it: no clock and no "
        "other verb does. Items in progress finish. Freezing it twice keeps the first one's reason and time.",
        parameters=[LaneQuery, *schema.COMMAND_PARAMETERS],
        request=FreezeSerializer,
        responses=answers({200: FrozenLaneSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        lane = selection.find_lane(request.user, self.query(LaneQuery)["lane"])
        freezes.freeze(lane, actor=self.actor, **self.body(FreezeSerializer))
        return Response(_shown(lane))


class Unfreeze(AutomationView):
    """Unfreeze a lane."""

    @extend_schema(
        operation_id="unfreeze_lane",
        summary="Lift the freeze of a lane",
        description="The freeze of a person or of a stage. Other holds stay in force. A lane that is not frozen "
        "answers 409 (`not_frozen`).",
        parameters=[LaneQuery, *schema.COMMAND_PARAMETERS],
        request=ReasonSerializer,
        responses=answers({200: FrozenLaneSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        lane = selection.find_lane(request.user, self.query(LaneQuery)["lane"])
        freezes.unfreeze(lane, actor=self.actor, **self.body(ReasonSerializer))
        return Response(_shown(lane))


def _shown(lane: str) -> dict[str, Any]:
    hold = freezes.of_lane(lane)
    return {
        "lane": lane,
        "frozen": hold is not None,
        "frozen_reason": hold.reason if hold else None,
        "frozen_at": hold.created_at if hold else None,
        "frozen_by": hold.actor if hold else None,
    }
