"""``/api/v1/queue/`` and ``/api/v1/lanes/``: what waits in which lane and why, and what lanes are like."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.lanes.serializers import (
    ChangedLaneSerializer,
    LaneChangeSerializer,
    LaneQueueSerializer,
    LaneSerializer,
    QueueQuery,
)
from automation.api.runs import selection
from automation.api.schema import COMMAND, READ, answers
from automation.models import AutomationRun, Lane
from automation.reports import lane_queue, payload_access
from automation.runs import lanes
from pause_manager.api.http import pagination
from pause_manager.api.http.pagination import PageQuery, page_of

ORDER = ("name",)
LANE_NAME = OpenApiParameter("lane", str, OpenApiParameter.PATH, description="Name of a lane: the slug of its site.")


def find(user: Any, name: str) -> Lane:
    """The lane of a site that ``user`` may see, with its defaults if it has no row; raises ``LaneNotFound``."""
    lane = Lane.objects.filter(name=selection.find_lane(user, name)).first()
    if lane is None:
        lane = Lane(name=name)
        lane.created_at = None  # type: ignore[assignment]  # not the database's default, which it has when it is saved
    return lane


class Queue(AutomationView):
    """What waits, lane by lane."""

    @extend_schema(
        operation_id="show_queue",
        summary="Show who runs, who waits and why, lane by lane",
        description="Lists lanes of the caller's accounts. Each waiting run has all its reasons, in their order.",
        parameters=[QueueQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("LaneQueuePage", LaneQueueSerializer)}, *READ),
    )
    def get(self, request: Request) -> Response:
        given = self.query(QueueQuery)
        may_view = payload_access.may_view(request.user)

        def shown(found: list[Lane]) -> Any:
            told = lane_queue.of_each(found, at_most=given["runs"])
            queues = [_as_dict(queue, may_view=may_view) for queue in told]
            return LaneQueueSerializer(queues, many=True).data

        if "lane" in given:
            return Response({"next": None, "results": shown([find(request.user, given["lane"])])})
        return Response(pagination.page(request, Lane.objects.visible_to(request.user), ORDER, given, shown))


class LaneList(AutomationView):
    """Lanes."""

    @extend_schema(
        operation_id="list_lanes",
        summary="List lanes, by name",
        description="Of the sites of the caller's accounts that have had a run.",
        parameters=[PageQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("LanePage", LaneSerializer)}, *READ),
    )
    def get(self, request: Request) -> Response:
        def shown(found: list[Lane]) -> Any:
            return LaneSerializer(found, many=True).data

        rows = Lane.objects.visible_to(request.user)
        return Response(pagination.page(request, rows, ORDER, self.query(PageQuery), shown))


class LaneDetail(AutomationView):
    """One lane."""

    @extend_schema(
        operation_id="show_lane",
        summary="Show a lane",
        parameters=[LANE_NAME, schema.REQUEST_ID],
        responses=answers({200: LaneSerializer}, *READ),
    )
    def get(self, request: Request, lane: str) -> Response:
        return Response(LaneSerializer(find(request.user, lane)).data)

    @extend_schema(
        operation_id="change_lane",
        summary="Give a lane another policy or width",
        description="A smaller width interrupts no run: places are given again when fewer runs than that hold one.",
        parameters=[LANE_NAME, schema.REQUEST_ID],
        request=LaneChangeSerializer,
        responses=answers({200: ChangedLaneSerializer}, *COMMAND),
    )
    def patch(self, request: Request, lane: str) -> Response:
        found = find(request.user, lane)
        changed, started = lanes.change(found.name, actor=self.actor, **self.body(LaneChangeSerializer))
        return Response(ChangedLaneSerializer(changed).data | {"started": started})


def _as_dict(queue: lane_queue.LaneQueue, *, may_view: bool) -> dict[str, Any]:
    active = [_run(run) for run in queue.active]
    waiting = []
    for one in queue.waiting:
        reasons = one.reasons if may_view else payload_access.without_texts(one.reasons)
        told = [reason.as_dict() for reason in reasons]
        waiting.append(_run(one.run) | {"position": one.position, "reason": told[0] if told else None, "reasons": told})
    return {
        "lane": queue.lane.name,
        "policy": queue.lane.policy,
        "width": queue.lane.width,
        "active_task": active[0] if active else None,
        "active": active,
        "waiting": waiting,
        "waiting_count": queue.waiting_count,
        "paused": [_run(run) for run in queue.paused],
        "paused_count": queue.paused_count,
        "frozen": queue.freeze is not None,
        "frozen_reason": queue.freeze.reason if queue.freeze else None,
        "frozen_at": queue.freeze.created_at if queue.freeze else None,
    }


def _run(run: AutomationRun) -> dict[str, Any]:
    return {
        "run": run.pk,
        "pipeline": run.pipeline,
        "site": run.site.slug,
        "priority": run.priority,
        "lifecycle": run.lifecycle,
        "created_at": run.created_at,
        "has_place": run.lane_seat_at is not None,
        "paused_at": run.paused_at,
    }
