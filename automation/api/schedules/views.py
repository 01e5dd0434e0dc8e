"""``/api/v1/schedules/``: schedules, their verbs and their occurrences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.errors import ScheduleNotFound
from automation.api.runs import selection
from automation.api.runs.serializers import RunSerializer, shown
from automation.api.schedules.serializers import (
    ComingSerializer,
    DueSerializer,
    NewScheduleSerializer,
    NextQuery,
    OccurrenceSerializer,
    PauseSerializer,
    ResumeOccurrenceSerializer,
    RunNowSerializer,
    ScheduleChangesSerializer,
    ScheduleQuery,
    ScheduleSerializer,
)
from automation.api.schema import COMMAND, READ, answers
from automation.models import Schedule, ScheduleOccurrence
from automation.models.schedules import ScheduleQuerySet
from automation.reports import payload_access
from automation.schedules import definitions, report, starting
from pause_manager.api.http import pagination
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.pagination import PageQuery, page_of
from pause_manager.api.http.strict import ReasonSerializer
from pause_manager.recurrence.rule import with_kind

TAGS = ["v1"]
SCHEDULE_ID = OpenApiParameter("schedule_id", OpenApiTypes.STR, OpenApiParameter.PATH, description="Id of a schedule.")
StartedSerializer = inline_serializer(
    "ResumedSchedule", {"schedule": ScheduleSerializer(), "run": RunSerializer(allow_null=True)}
)


def visible(user: Any) -> ScheduleQuerySet:
    """The schedules that ``user`` may see, with their sites."""
    rows: ScheduleQuerySet = Schedule.objects.visible_to(user).select_related("site__account")
    return rows


def find(user: Any, schedule_id: str) -> Schedule:
    """Return the schedule of this id, or raise :class:`ScheduleNotFound`."""
    if not (schedule_id.isascii() and schedule_id.isdecimal() and len(schedule_id) < 19):
        raise ScheduleNotFound(schedule_id)
    found = visible(user).filter(pk=int(schedule_id)).first()
    if found is None:
        raise ScheduleNotFound(schedule_id)
    return found


def shown_schedules(rows: Sequence[Schedule], user: Any) -> list[dict[str, Any]]:
    """``rows`` for JSON."""
    return report.shown(rows, with_payloads=payload_access.may_view(user))


class ScheduleView(AutomationView):
    """A view of one schedule."""

    def answer(self, request: Request, pk: int, status: int = 200) -> Response:
        """The schedule as it is now."""
        return Response(shown_schedules([visible(request.user).get(pk=pk)], request.user)[0], status=status)


class ScheduleList(ScheduleView):
    """All schedules the caller may see, and new ones."""

    @extend_schema(
        operation_id="list_schedules",
        summary="List schedules",
        parameters=[ScheduleQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("SchedulePage", ScheduleSerializer)}, *READ),
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        query = self.query(ScheduleQuery)
        rows = visible(request.user)
        if "site" in query:
            rows = rows.filter(site=selection.find_site(request.user, query["site"]))
        if "pipeline" in query:
            rows = rows.filter(pipeline=query["pipeline"])
        return Response(pagination.page(request, rows, ("id",), query, partial(shown_schedules, user=request.user)))

    @extend_schema(
        operation_id="create_schedule",
        summary="Create a schedule",
        description="Parameters and items are checked as for a run. `next` in the answer lists the next five times.",
        parameters=schema.COMMAND_PARAMETERS,
        request=NewScheduleSerializer,
        responses=answers({201: ScheduleSerializer}, *COMMAND),
        tags=TAGS,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        given = self.body(NewScheduleSerializer)
        site = selection.find_site(request.user, given.pop("site"))
        return self.answer(request, definitions.create(site, given, actor=self.actor).pk, 201)


class ScheduleDetail(ScheduleView):
    """One schedule."""

    @extend_schema(
        operation_id="show_schedule",
        summary="Show a schedule",
        parameters=[SCHEDULE_ID, schema.REQUEST_ID],
        responses=answers({200: ScheduleSerializer}, *READ),
        tags=TAGS,
    )
    def get(self, request: Request, schedule_id: str) -> Response:
        return self.answer(request, find(request.user, schedule_id).pk)

    @extend_schema(
        operation_id="change_schedule",
        summary="Change a schedule",
        parameters=[SCHEDULE_ID, *schema.COMMAND_PARAMETERS],
        request=ScheduleChangesSerializer,
        responses=answers({200: ScheduleSerializer}, *COMMAND),
        tags=TAGS,
    )
    @idempotent
    def patch(self, request: Request, schedule_id: str) -> Response:
        pk = find(request.user, schedule_id).pk
        given = self.body(ScheduleChangesSerializer)
        reason = given.pop("reason")
        definitions.change(pk, with_kind(given), actor=self.actor, reason=reason)
        return self.answer(request, pk)

    @extend_schema(
        operation_id="delete_schedule",
        summary="Delete a schedule with its occurrences; its runs stay",
        parameters=[SCHEDULE_ID, ReasonSerializer, *schema.COMMAND_PARAMETERS],
        responses=answers({204: None}, *COMMAND),
        tags=TAGS,
    )
    @idempotent
    def delete(self, request: Request, schedule_id: str) -> Response:
        given = self.query(ReasonSerializer)
        definitions.delete(find(request.user, schedule_id).pk, actor=self.actor, **given)
        return Response(status=204)


class ScheduleNext(ScheduleView):
    """What comes."""

    @extend_schema(
        operation_id="next_of_schedule",
        summary="List the next times of a schedule",
        parameters=[SCHEDULE_ID, NextQuery, schema.REQUEST_ID],
        responses=answers(
            {
                200: inline_serializer(
                    "NextTimes", {"in_words": serializers.CharField(), "next": ComingSerializer(many=True)}
                )
            },
            *READ,
        ),
        tags=TAGS,
    )
    def get(self, request: Request, schedule_id: str) -> Response:
        schedule = find(request.user, schedule_id)
        found = report.coming(schedule, self.query(NextQuery)["count"])
        return Response({"in_words": schedule.rule.words(), "next": found})


class ScheduleOccurrences(ScheduleView):
    """What came."""

    @extend_schema(
        operation_id="occurrences_of_schedule",
        summary="List the occurrences of a schedule and what became of each, newest first",
        parameters=[SCHEDULE_ID, PageQuery, schema.REQUEST_ID],
        responses=answers({200: page_of("OccurrencePage", OccurrenceSerializer)}, *READ),
        tags=TAGS,
    )
    def get(self, request: Request, schedule_id: str) -> Response:
        rows = ScheduleOccurrence.objects.filter(schedule=find(request.user, schedule_id))
        may_view = payload_access.may_view(request.user)

        def show(found: list[ScheduleOccurrence]) -> list[dict[str, Any]]:
            return [report.occurrence(row, with_payloads=may_view) for row in found]

        return Response(pagination.page(request, rows, ("-due_at",), self.query(PageQuery), show))


class SkipOccurrence(ScheduleView):
    """An occurrence that does not come."""

    @extend_schema(
        operation_id="skip_occurrence",
        summary="Skip an occurrence of a schedule: the next one, unless `due_at` names another",
        parameters=[SCHEDULE_ID, *schema.COMMAND_PARAMETERS],
        request=DueSerializer,
        responses=answers({200: ScheduleSerializer}, *COMMAND),
        tags=TAGS,
    )
    @idempotent
    def post(self, request: Request, schedule_id: str) -> Response:
        pk = find(request.user, schedule_id).pk
        definitions.skip(pk, actor=self.actor, **self.body(DueSerializer))
        return self.answer(request, pk)


class PauseSchedule(ScheduleView):
    """A pause."""

    @extend_schema(
        operation_id="pause_schedule",
        summary="Pause a schedule, or with `due_at` one occurrence of it",
        description="A paused schedule starts nothing; `catch_up` decides what it starts when it is resumed. A paused "
        "occurrence starts when it is resumed, or at its time if that has not come.",
        parameters=[SCHEDULE_ID, *schema.COMMAND_PARAMETERS],
        request=PauseSerializer,
        responses=answers({200: ScheduleSerializer}, *COMMAND),
        tags=TAGS,
    )
    @idempotent
    def post(self, request: Request, schedule_id: str) -> Response:
        pk = find(request.user, schedule_id).pk
        given = self.body(PauseSerializer)
        verb = definitions.pause_occurrence if "due_at" in given else definitions.pause
        verb(pk, actor=self.actor, **given)
        return self.answer(request, pk)


class ResumeSchedule(ScheduleView):
    """The end of a pause."""

    @extend_schema(
        operation_id="resume_schedule",
        summary="Resume a schedule, or with `due_at` an occurrence that was skipped or paused",
        description="A paused occurrence whose time has passed starts now, as `run_now` does.",
        parameters=[SCHEDULE_ID, *schema.COMMAND_PARAMETERS],
        request=ResumeOccurrenceSerializer,
        responses=answers({200: StartedSerializer}, *COMMAND),
        tags=TAGS,
    )
    @idempotent
    def post(self, request: Request, schedule_id: str) -> Response:
        pk = find(request.user, schedule_id).pk
        given = self.body(ResumeOccurrenceSerializer)
        run = None
        if "due_at" in given:
            queued = given.pop("queue")
            run = definitions.resume_occurrence(pk, actor=self.actor, queued=queued, **given)
        else:
            definitions.resume(pk, actor=self.actor, reason=given["reason"])
        body = {"schedule": self.answer(request, pk).data, "run": None}
        if run is not None:
            body["run"] = shown(selection.visible(request.user).get(pk=run.pk), request.user)
        return Response(body)


class RunNow(ScheduleView):
    """A run that does not wait for its time."""

    @extend_schema(
        operation_id="run_schedule_now",
        summary="Start the run of a schedule now",
        description="Refused (409, `site_busy`) while the site has an unfinished run, unless `queue` is true: then it "
        "waits behind that. A schedule that is paused or disabled can be run, too.",
        parameters=[SCHEDULE_ID, *schema.COMMAND_PARAMETERS],
        request=RunNowSerializer,
        responses=answers({201: RunSerializer}, *COMMAND),
        tags=TAGS,
    )
    @idempotent
    def post(self, request: Request, schedule_id: str) -> Response:
        pk = find(request.user, schedule_id).pk
        given = self.body(RunNowSerializer)
        run = starting.run_now(pk, actor=self.actor, reason=given["reason"], queued=given["queue"])
        return Response(shown(selection.visible(request.user).get(pk=run.pk), request.user), status=201)
