"""Runs: list, create, show, and the verbs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from automation import conf
from automation.api import creation, filters, runs, schema
from automation.api.errors import RunNotFound
from automation.api.permissions import MayDeleteRuns, MayUseRuns
from automation.api.serializers.errors import COMMAND, READ, answers
from automation.api.serializers.input import CreatedRunSerializer
from automation.api.serializers.run import (
    DeletionQuery,
    NewRunFormSerializer,
    NewRunSerializer,
    ReasonSerializer,
    ResumeSerializer,
    RunSerializer,
    shown,
    shown_all,
)
from automation.api.views.base import AutomationView
from automation.models import AutomationRun
from automation.retention import deletion
from automation.runs import forcing, lifecycle, retries
from pause_manager.api import pagination
from pause_manager.api.idempotency import idempotent
from pause_manager.api.parsers import JsonParser, MultiPartParser
from pause_manager.observability.actor import Actor

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
        site = runs.find_site(request.user, query["site"]) if "site" in query else None
        rows = filters.narrowed(runs.visible(request.user), query, site.pk if site else None)
        return Response(pagination.page(request, rows, NEWEST_FIRST, query, partial(shown_all, user=request.user)))

    @extend_schema(
        operation_id="create_run",
        summary="Create a run, and start it unless told not to",
        description="Nothing is created from an input or parameters that are wrong anywhere; the sentence names where. "
        "How a file is read is up to the pipeline: as rows with the names of their header, unless it says otherwise. "
        "`input` tells what was read and what was left out.",
        parameters=schema.COMMAND,
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
        return Response(shown(runs.find(request.user, run_id), request.user))

    @extend_schema(
        operation_id="delete_run",
        summary="Delete a final run for good",
        description="With its items, failures and files; its events stay. Nobody sees it from here on, the rows go in "
        "the background. It needs the permission to delete runs. A run that is not final answers 409; a repeat 204.",
        parameters=[schema.WHOLE_RUN_ID, DeletionQuery, *schema.COMMAND],
        responses=answers({204: None}, *COMMAND),
    )
    @idempotent
    def delete(self, request: Request, run_id: str) -> Response:
        given = self.query(DeletionQuery)
        try:
            run = runs.find_by_id(request.user, run_id)  # a repeat must not mean another run
        except RunNotFound:
            if not runs.was_deleted(request.user, run_id):
                raise
        else:
            deletion.delete(run.pk, actor=self.actor, **given)
        return Response(status=204)

    def get_permissions(self) -> list[BasePermission]:
        return [MayDeleteRuns()] if self.request.method == "DELETE" else [MayUseRuns()]


Verb = Callable[..., AutomationRun]


class RunVerb(AutomationView):
    """A verb over one run. Bounded database work: it never waits for a worker."""

    verb: ClassVar[Verb]

    def act(self, request: Request, run_id: UUID, reason: str, actor: Actor) -> dict[str, Any]:
        """Carry the verb out and show what the run is then."""
        changed = type(self).verb(run_id, actor=actor, reason=reason)
        return shown(runs.find(request.user, changed.pk), request.user)

    def carry_out(self, request: Request, run_id: str) -> Response:
        run = runs.find(request.user, run_id)
        return Response(self.act(request, run.pk, self.body(ReasonSerializer)["reason"], self.actor))


class StartRun(RunVerb):
    """Start a pending run."""

    verb = staticmethod(lifecycle.start_run)

    @extend_schema(
        operation_id="start_run",
        summary="Start a pending run",
        description="At once, or as soon as the gate opens: then it is `waiting`. A run that has started answers 409.",
        parameters=[schema.RUN_ID, *schema.COMMAND],
        request=ReasonSerializer,
        responses=answers({200: RunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, run_id: str) -> Response:
        return self.carry_out(request, run_id)


class PauseRun(RunVerb):
    """Pause a run."""

    verb = staticmethod(lifecycle.pause)

    @extend_schema(
        operation_id="pause_run",
        summary="Pause a run",
        description="No further item starts; items at work finish: `pausing` until then, then `paused`. "
        "A second pause changes nothing and keeps the first one's time.",
        parameters=[schema.RUN_ID, *schema.COMMAND],
        request=ReasonSerializer,
        responses=answers({200: RunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, run_id: str) -> Response:
        return self.carry_out(request, run_id)


class ResumeRun(AutomationView):
    """Resume a paused run, or start one that is parked."""

    @extend_schema(
        operation_id="resume_run",
        summary="Resume a paused run",
        description="It goes on with exactly the items that were left. A run that is not paused answers 409. With "
        "`force` a run that waits for capacity starts whatever the capacity says, and its operator's hold is released, "
        "too; other holds stay in force. One that does not wait for capacity answers 409 (`not_parked`).",
        parameters=[schema.RUN_ID, *schema.COMMAND],
        request=ResumeSerializer,
        responses=answers({200: RunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, run_id: str) -> Response:
        run = runs.find(request.user, run_id)
        given = self.body(ResumeSerializer)
        verb = forcing.resume_parked if given["force"] else lifecycle.resume
        changed = verb(run.pk, actor=self.actor, reason=given["reason"])
        return Response(shown(runs.find(request.user, changed.pk), request.user))


class CancelRun(RunVerb):
    """Cancel a run for good."""

    verb = staticmethod(lifecycle.cancel)

    @extend_schema(
        operation_id="cancel_run",
        summary="Cancel a run for good",
        description="Items at work finish; `cancelling` until then. A repeated cancel changes nothing.",
        parameters=[schema.RUN_ID, *schema.COMMAND],
        request=ReasonSerializer,
        responses=answers({200: RunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, run_id: str) -> Response:
        return self.carry_out(request, run_id)


class RetryFailed(AutomationView):
    """Do the rest of a final run."""

    @extend_schema(
        operation_id="retry_failed",
        summary="Start a new run over what a completed or failed run left undone",
        description="Items that failed or were never reached are done; what the old run has made stays there. "
        "A second retry answers 409 and names the first.",
        parameters=[schema.RUN_ID, *schema.COMMAND],
        request=ReasonSerializer,
        responses=answers({201: RunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request, run_id: str) -> Response:
        old = runs.find(request.user, run_id)
        reason = self.body(ReasonSerializer)["reason"]
        new = retries.retry_failed(old.pk, actor=self.actor, reason=reason)
        return created(request, new.pk)


def created(request: Request, run_id: UUID, more: dict[str, Any] | None = None) -> Response:
    """The answer that shows a run that was just created, and where it is."""
    location = request.build_absolute_uri(reverse("automation-api:run", args=[run_id]))
    body = shown(runs.find(request.user, run_id), request.user) | (more or {})
    return Response(body, status=201, headers={"Location": location})
