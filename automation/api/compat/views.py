"""Endpoints that name a site, for callers who know them from elsewhere."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.compat import choice, processing
from automation.api.compat.serializers import (
    CurrentRunSerializer,
    HistorySerializer,
    LogQuery,
    LogSerializer,
    ProcessingQuery,
    ProcessingSerializer,
    SiteQuery,
    TargetQuery,
)
from automation.api.runs import selection
from automation.api.runs.serializers import RunSerializer, shown, shown_all
from automation.api.runs.views import NEWEST_FIRST, Verb, answer_with
from automation.api.schema import COMMAND, READ, answers
from automation.models import AutomationRun
from automation.reports import payload_access
from automation.runs import lifecycle
from pause_manager import workloads
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.strict import ReasonSerializer
from pause_manager.models import ControlEvent


def site_verb(name: str, verb: Verb) -> type[AutomationView]:
    """Return the endpoint that carries ``verb`` out over the run that is named, or the one of the site."""

    class SiteVerb(AutomationView):
        @extend_schema(
            operation_id=name,
            summary=f"{name.capitalize()} the run that is named, or the site's",
            description="Without `run_id` it is the one run of the site that this would change; several are refused.",
            parameters=[TargetQuery, *schema.COMMAND_PARAMETERS],
            request=ReasonSerializer,
            responses=answers({200: RunSerializer}, *COMMAND),
        )
        @idempotent
        def post(self, request: Request) -> Response:
            target = self.query(TargetQuery)
            run = choice.for_verb(request.user, name, target.get("run_id"), target.get("site_id"))
            changed = verb(run.pk, actor=self.actor, **self.body(ReasonSerializer))
            return answer_with(request, changed.pk)

    return SiteVerb


PauseSite = site_verb("pause", lifecycle.pause)
ResumeSite = site_verb("resume", lifecycle.resume)
CancelSite = site_verb("cancel", lifecycle.cancel)


class CurrentRun(AutomationView):
    """The run in progress."""

    @extend_schema(
        operation_id="current_run",
        summary="Show the run that is in progress, or waits",
        parameters=[SiteQuery, schema.REQUEST_ID],
        responses=answers({200: CurrentRunSerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        site = self.query(SiteQuery).get("site_id")
        run = choice.current(request.user, selection.find_site(request.user, site) if site else None)
        return Response({"run": shown(run, request.user) if run else None})


class CurrentProcessing(AutomationView):
    """What is in progress."""

    @extend_schema(
        operation_id="current_processing",
        summary="Show the current stage with the items now and next",
        parameters=[ProcessingQuery, schema.REQUEST_ID],
        responses=answers({200: ProcessingSerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(ProcessingQuery)
        site = query.get("site_id")
        if "run_id" in query:
            run: AutomationRun | None = choice.of_site(request.user, query["run_id"], site)
        else:
            run = choice.current(request.user, selection.find_site(request.user, site) if site else None)
        found = processing.of_run(run, is_shown=payload_access.may_view(request.user)) if run else processing.NOTHING
        return Response(ProcessingSerializer(found).data)


class History(AutomationView):
    """The last runs."""

    @extend_schema(
        operation_id="history",
        summary="List the last 20 runs",
        parameters=[SiteQuery, schema.REQUEST_ID],
        responses=answers({200: HistorySerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        site = self.query(SiteQuery).get("site_id")
        rows = selection.visible(request.user)
        if site:
            rows = rows.filter(site=selection.find_site(request.user, site))
        newest = list(rows.order_by(*NEWEST_FIRST)[: choice.HISTORY])
        return Response({"results": shown_all(newest, request.user)})


class Logs(AutomationView):
    """The run's log."""

    @extend_schema(
        operation_id="logs",
        summary="Show the last lines of a run's log",
        parameters=[LogQuery, schema.REQUEST_ID],
        responses=answers({200: LogSerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(LogQuery)
        run = choice.of_site(request.user, query["run_id"], query.get("site_id"))
        newest = ControlEvent.objects.of_scope(run.scope)[: query["lines"]]
        lines = [line_of(event) for event in workloads.events_for(request.user, reversed(newest))]
        return Response({"run_id": str(run.pk), "lines": lines})


def line_of(event: ControlEvent) -> str:
    """One event as a line of text."""
    reason = f": {event.reason}" if event.reason else ""
    return f"{event.at:%Y-%m-%d %H:%M:%S}Z {event.action} by {event.actor} through {event.channel}{reason}"
