"""Runs: list, create, show, and the verbs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from automation import conf
from automation.api import schema
from automation.api.base import AutomationView
from automation.api.errors import RunNotFound
from automation.api.permissions import MayDeleteRuns, MayUseRuns
from automation.api.runs import creation, filters, selection
from automation.api.runs.serializers import (
    CreatedRunSerializer,
    DeletionQuery,
    DependencyReleaseSerializer,
    NewDependenciesSerializer,
    NewRunFormSerializer,
    NewRunSerializer,
    PlacedRunSerializer,
    ResumeSerializer,
    RunPlaceSerializer,
    RunSerializer,
    shown,
    shown_all,
)
from automation.api.schema import COMMAND, READ, answers
from automation.models import AutomationRun
from automation.retention import deletion
from automation.runs import capacity_override, dependencies, lane_moves, lifecycle, retries
from pause_manager.actor import Actor
from pause_manager.api.http import pagination
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.parsers import JsonParser, MultiPartParser
from pause_manager.api.http.strict import ReasonSerializer, StrictSerializer

NEWEST_FIRST = ("-created_at", "-id")
RunPage = inline_serializer(
    "RunPage", {"next": serializers.URLField(allow_null=True), "results": RunSerializer(many=True)}
)


class RunList(AutomationView):
    """All runs the caller may see, and new ones."""

    parser_classes = [JsonParser, MultiPartParser]

    @property
    def max_body_bytes(self) -> int:  # type: ignore[override]
        is_form = (self.request.content_type or "").startswith("multipart/")
        return conf.settings().max_upload_bytes if is_form else conf.settings().max_json_bytes

    @extend_schema(
        operation_id="list_runs",
        summary="List runs, newest first",
        parameters=[filters.RunQuery, schema.REQUEST_ID],
        responses=answers({200: RunPage}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(filters.RunQuery)
        site = selection.find_site(request.user, query["site"]) if "site" in query else None
        rows = filters.narrowed(selection.visible(request.user), query, site.pk if site else None)
        return Response(pagination.page(request, rows, NEWEST_FIRST, query, partial(shown_all, user=request.user)))

    @extend_schema(
        operation_id="create_run",
        summary="Create a run, and start it unless told not to",
        description="If anything in the input or parameters is wrong, nothing is created, and the message says where. "
        "How a file is read is up to the pipeline: as rows with the names of their header, unless it says otherwise. "
        "`input` tells what was read and what was left out.",
        parameters=schema.COMMAND_PARAMETERS,
        request={"application/json": NewRunSerializer, "multipart/form-data": NewRunFormSerializer},
        responses=answers({201: CreatedRunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        is_form = (request.content_type or "").startswith("multipart/")
        given = self.body(NewRunFormSerializer if is_form else NewRunSerializer)
        run, read = creation.create(request.user, given, self.actor)
        return created(request, run.pk, {"input": read.report.details()} if read else None)


class RunDetail(AutomationView):
    """One run."""

    @extend_schema(
        operation_id="show_run",
        summary="Show one run",
        parameters=[schema.RUN_ID, schema.REQUEST_ID],
        responses=answers({200: RunSerializer}, *READ),
    )
    def get(self, request: Request, run_id: str) -> Response:
        return Response(shown(selection.find(request.user, run_id), request.user))

    @extend_schema(
        operation_id="move_run",
        summary="Give a run another priority or place in its lane",
        description="Never against a dependency: a run that waits for another stays after it (409, `move_refused`). A "
        "run that holds a place of its lane already can get another priority and cannot be moved.",
        parameters=[schema.RUN_ID, *schema.COMMAND_PARAMETERS],
        request=RunPlaceSerializer,
        responses=answers({200: PlacedRunSerializer}, *COMMAND),
    )
    @idempotent
    def patch(self, request: Request, run_id: str) -> Response:
        run, given = selection.find(request.user, run_id), self.body(RunPlaceSerializer)
        by = {"actor": self.actor, "reason": given["reason"]}
        if "priority" in given:
            moved = lane_moves.set_priority(run.pk, given["priority"], **by)
        elif isinstance(given["move"], dict):
            other = selection.find(request.user, given["move"]["before"])
            moved = lane_moves.before(run.pk, other.pk, **by)
        else:
            moved = {"front": lane_moves.to_front, "back": lane_moves.to_back}[given["move"]](run.pk, **by)
        place = {"priority": moved.run.priority, "position": moved.position, "moved": moved.sentence}
        return Response(shown(selection.find(request.user, run.pk), request.user) | place)

    @extend_schema(
        operation_id="delete_run",
        summary="Delete a final run for good",
        description="With its items, failures and files; its events stay. Nobody sees it from here on, the rows go in "
        "the background. It needs the permission to delete runs. A run that is not final answers 409; a repeat 204.",
        parameters=[schema.WHOLE_RUN_ID, DeletionQuery, *schema.COMMAND_PARAMETERS],
        responses=answers({204: None}, *COMMAND),
    )
    @idempotent
    def delete(self, request: Request, run_id: str) -> Response:
        given = self.query(DeletionQuery)
        try:
            run = selection.find_by_id(request.user, run_id)  # a repeat must not mean another run
        except RunNotFound:
            if not selection.was_deleted(request.user, run_id):
                raise
        else:
            deletion.delete(run.pk, actor=self.actor, **given)
        return Response(status=204)

    def get_permissions(self) -> list[BasePermission]:
        return [MayDeleteRuns()] if self.request.method == "DELETE" else [MayUseRuns()]


Verb = Callable[..., AutomationRun]


def run_verb(
    name: str,
    verb: Verb,
    summary: str,
    description: str,
    *,
    body: type[StrictSerializer] = ReasonSerializer,
    creates: bool = False,
) -> type[AutomationView]:
    """Return the endpoint that carries ``verb`` out over the run in its path, with the fields of ``body``.

    Bounded database work: it never waits for a worker. If it ``creates``, the answer shows the new run.
    """

    class RunVerb(AutomationView):
        @extend_schema(
            operation_id=name,
            summary=summary,
            description=description,
            parameters=[schema.RUN_ID, *schema.COMMAND_PARAMETERS],
            request=body,
            responses=answers({201 if creates else 200: RunSerializer}, *COMMAND),
        )
        @idempotent
        def post(self, request: Request, run_id: str) -> Response:
            run = selection.find(request.user, run_id)
            changed = verb(run.pk, actor=self.actor, **self.body(body))
            return created(request, changed.pk) if creates else answer_with(request, changed.pk)

    return RunVerb


def _resume(run_id: UUID, *, actor: Actor, reason: str, force: bool) -> AutomationRun:
    verb = capacity_override.resume_parked if force else lifecycle.resume
    return verb(run_id, actor=actor, reason=reason)


StartRun = run_verb(
    "start_run",
    lifecycle.start_run,
    "Start a pending run",
    "At once, or as soon as the gate opens: then it is `waiting`. A run that has started answers 409.",
)
PauseRun = run_verb(
    "pause_run",
    lifecycle.pause,
    "Pause a run",
    "No further item starts; items in progress finish: `pausing` until then, then `paused`. "
    "A second pause changes nothing and keeps the first one's time.",
)
ResumeRun = run_verb(
    "resume_run",
    _resume,
    "Resume a paused run",
    "It continues with exactly the items that were left. A run that is not paused answers 409. With "
    "`force` a run that waits for capacity starts whatever the capacity says, and its operator's hold is released, "
    "too; other holds stay in force. One that does not wait for capacity answers 409 (`not_parked`).",
    body=ResumeSerializer,
)
CancelRun = run_verb(
    "cancel_run",
    lifecycle.cancel,
    "Cancel a run for good",
    "Items in progress finish; `cancelling` until then. A repeated cancel changes nothing.",
)
RetryFailed = run_verb(
    "retry_failed",
    retries.retry_failed,
    "Start a new run over what a completed or failed run left undone",
    "Items that failed or were never reached are done; what the old run has made stays there. "
    "A second retry answers 409 and names the first.",
    creates=True,
)


def _add_dependencies(run_id: UUID, *, actor: Actor, reason: str, after: list[UUID]) -> AutomationRun:
    dependencies.add(run_id, after, actor=actor, reason=reason)
    return AutomationRun.objects.get(pk=run_id)


AddDependencies = run_verb(
    "add_dependencies",
    _add_dependencies,
    "Have a pending run wait for other runs",
    "It starts once each of them has completed. A run that has started, and a circle, answer 409; the sentence names "
    "the runs of the circle.",
    body=NewDependenciesSerializer,
)
ReleaseDependency = run_verb(
    "release_dependency",
    dependencies.release,
    "Let a run start though one that it depends on has not completed",
    "Only that one dependency: whatever else keeps the run stays in force. One that it does not wait for answers 409.",
    body=DependencyReleaseSerializer,
)


def answer_with(request: Request, run_id: UUID) -> Response:
    """The run as it is now."""
    return Response(shown(selection.find(request.user, run_id), request.user))


def created(request: Request, run_id: UUID, more: dict[str, Any] | None = None) -> Response:
    """The answer that shows a run that was just created, and where it is."""
    location = request.build_absolute_uri(reverse("automation-api:run", args=[run_id]))
    body = shown(selection.find(request.user, run_id), request.user) | (more or {})
    return Response(body, status=201, headers={"Location": location})
