"""Endpoints that name a site, for callers who know them from elsewhere."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import choice, processing, runs, schema
from automation.api.serializers.compatible import (
    CurrentRunSerializer,
    HistorySerializer,
    LogQuery,
    LogSerializer,
    ProcessingQuery,
    ProcessingSerializer,
    SiteQuery,
    TargetQuery,
)
from automation.api.serializers.errors import COMMAND, READ, answers
from automation.api.serializers.run import ReasonSerializer, RunSerializer, shown, shown_all
from automation.api.views.base import AutomationView
from automation.api.views.runs import NEWEST_FIRST, RunVerb
from automation.models import AutomationRun
from automation.reports import payload_access
from automation.runs import lifecycle
from pause_manager import workloads_audit_readers
from pause_manager.api.idempotency import idempotent
from pause_manager.models import ControlEvent


class SiteVerb(RunVerb):
    """A verb over the run that is named, or over the one of the site that it would change."""

    name: str

    def carry_out_for(self, request: Request) -> Response:
        target = self.query(TargetQuery)
        run = choice.for_verb(request.user, self.name, target.get("run_id"), target.get("site_id"))
        return self.carry_out(request, str(run.pk))


class PauseSite(SiteVerb):
    """Pause a run of a site."""

    name = "pause"
    verb = staticmethod(lifecycle.pause)

    @extend_schema(
        operation_id="pause",
        summary="Pause the run that is named, or the site's",
        description="Without `run_id` it is the one run of the site that this would change; several are refused.",
        parameters=[TargetQuery, *schema.COMMAND],
        request=ReasonSerializer,
        responses=answers({200: RunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        return self.carry_out_for(request)


class ResumeSite(SiteVerb):
    """Resume a run of a site."""

    name = "resume"
    verb = staticmethod(lifecycle.resume)

    @extend_schema(
        operation_id="resume",
        summary="Resume the run that is named, or the site's",
        description="Without `run_id` it is the one run of the site that this would change; several are refused.",
        parameters=[TargetQuery, *schema.COMMAND],
        request=ReasonSerializer,
        responses=answers({200: RunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        return self.carry_out_for(request)


class CancelSite(SiteVerb):
    """Cancel a run of a site."""

    name = "cancel"
    verb = staticmethod(lifecycle.cancel)

    @extend_schema(
        operation_id="cancel",
        summary="Cancel the run that is named, or the site's",
        description="Without `run_id` it is the one run of the site that this would change; several are refused.",
        parameters=[TargetQuery, *schema.COMMAND],
        request=ReasonSerializer,
        responses=answers({200: RunSerializer}, *COMMAND),
    )
    @idempotent
    def post(self, request: Request) -> Response:
        return self.carry_out_for(request)


class CurrentRun(AutomationView):
    """The run at work."""

    @extend_schema(
        operation_id="current_run",
        summary="Show the run that is at work, or waits",
        parameters=[SiteQuery, schema.REQUEST_ID],
        responses=answers({200: CurrentRunSerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        site = self.query(SiteQuery).get("site_id")
        run = choice.current(request.user, runs.find_site(request.user, site) if site else None)
        return Response({"run": shown(run, request.user) if run else None})


class CurrentProcessing(AutomationView):
    """What is at work."""

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
            run = choice.current(request.user, runs.find_site(request.user, site) if site else None)
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
        rows = runs.visible(request.user)
        if site:
            rows = rows.filter(site=runs.find_site(request.user, site))
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
        lines = [line_of(event) for event in workloads_audit_readers.as_told_to(request.user, reversed(newest))]
        return Response({"run_id": str(run.pk), "lines": lines})


def line_of(event: ControlEvent) -> str:
    """One event as a line of text."""
    reason = f": {event.reason}" if event.reason else ""
    return f"{event.at:%Y-%m-%d %H:%M:%S}Z {event.action} by {event.actor} through {event.channel}{reason}"
