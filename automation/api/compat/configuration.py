"""The configuration of a site, an overview of its pipeline, and an estimate, for callers who know one schedule each."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api import schema
from automation.api.base import AutomationView
from automation.api.compat import choice
from automation.api.compat.serializers import SITE, SiteQuery
from automation.api.runs import selection
from automation.api.runs.fields import PacingField
from automation.api.schedules.serializers import CLOCK
from automation.api.schema import COMMAND, READ, answers
from automation.errors import InvalidSchedule
from automation.models import AutomationRun, Schedule, Site
from automation.pipeline import get_pipeline
from automation.reports import estimates, progress
from automation.reports.status import ALL as STATUSES
from automation.schedules import definitions, site_configuration
from pause_manager.api.http.idempotency import idempotent
from pause_manager.api.http.strict import StrictSerializer
from pause_manager.recurrence import KINDS

_NAMES = {"frequency": "kind", "scheduled_time": "at"}
"""By name here, the column of the schedule."""


class OneSiteQuery(SiteQuery):
    site_id = serializers.CharField(max_length=60, help_text=SITE)


class EstimateQuery(OneSiteQuery):
    pipeline = serializers.CharField(
        max_length=50, required=False, help_text="Slug of a pipeline; that of the configuration if left out."
    )
    items = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=1_000_000_000,
        help_text="Items of the input; if left out, those of the configuration, else of the newest run.",
    )


class NewConfigurationSerializer(StrictSerializer):
    """The configuration of a site. What is left out has its default. A schedule called `automation` is made of it."""

    is_enabled = serializers.BooleanField(default=True)
    pipeline = serializers.CharField(max_length=50)
    params = serializers.DictField(required=False)
    pacing = PacingField(required=False)
    frequency = serializers.ChoiceField(choices=KINDS)
    scheduled_time = serializers.TimeField(required=False, allow_null=True, input_formats=CLOCK, format=CLOCK[0])
    weekdays = serializers.CharField(required=False, allow_blank=True, max_length=60)
    day_of_month = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=31)
    cron = serializers.CharField(required=False, allow_blank=True, max_length=200)
    every_minutes = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=527_040)
    time_zone = serializers.CharField(required=False, max_length=64)
    priority = serializers.IntegerField(required=False, min_value=1, max_value=5)
    catch_up = serializers.ChoiceField(required=False, choices=Schedule.CatchUp.values)


class ConfigurationSerializer(serializers.Serializer[Any]):
    """The configuration; all but `site_id` and `is_enabled` is null if the site has none."""

    site_id = serializers.CharField()
    schedule_id = serializers.IntegerField(allow_null=True, help_text="See `/api/v1/schedules/`.")
    is_enabled = serializers.BooleanField()
    pipeline = serializers.CharField(allow_null=True)
    params = serializers.DictField(allow_null=True)
    pacing = PacingField(allow_null=True)
    frequency = serializers.ChoiceField(choices=KINDS, allow_null=True)
    scheduled_time = serializers.CharField(allow_null=True)
    weekdays = serializers.CharField(allow_null=True)
    day_of_month = serializers.IntegerField(allow_null=True)
    cron = serializers.CharField(allow_null=True)
    every_minutes = serializers.IntegerField(allow_null=True)
    time_zone = serializers.CharField(allow_null=True)
    priority = serializers.IntegerField(allow_null=True)
    catch_up = serializers.ChoiceField(choices=Schedule.CatchUp.values, allow_null=True)
    in_words = serializers.CharField(allow_null=True)
    last_run_at = serializers.DateTimeField(allow_null=True, help_text="When the last run of the pipeline started.")
    next_run_at = serializers.DateTimeField(allow_null=True)


class OverviewStageSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    title = serializers.CharField()
    status = serializers.CharField(allow_null=True)
    total_items = serializers.IntegerField()
    processed_items = serializers.IntegerField()
    failed_items = serializers.IntegerField()
    remaining_count = serializers.IntegerField()
    percentage = serializers.FloatField()


class OverviewSerializer(serializers.Serializer[Any]):
    """The stages with what each has done in the run in progress, else in the newest run; zeros before the first."""

    pipeline = serializers.CharField(allow_null=True)
    run_id = serializers.UUIDField(allow_null=True)
    status = serializers.ChoiceField(choices=STATUSES, allow_null=True)
    stages = OverviewStageSerializer(many=True)


class StageEstimateSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    title = serializers.CharField()
    seconds_per_item = serializers.FloatField(allow_null=True)
    seconds = serializers.FloatField(allow_null=True)


class EstimateSerializer(serializers.Serializer[Any]):
    """Estimated working time, from the rate of the last five completed runs; null where nothing was measured.

    Installed apps add members: with credits `needed`, `balance` and `sufficient`.
    """

    pipeline = serializers.CharField()
    items = serializers.IntegerField(allow_null=True)
    measured_runs = serializers.IntegerField()
    seconds_per_item = serializers.FloatField(allow_null=True)
    seconds = serializers.FloatField(allow_null=True)
    stages = StageEstimateSerializer(many=True)


class Configuration(AutomationView):
    """When a site's runs start."""

    @extend_schema(
        operation_id="show_config",
        summary="Show when the runs of a site start by themselves",
        parameters=[OneSiteQuery, schema.REQUEST_ID],
        responses=answers({200: ConfigurationSerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        site = selection.find_site(request.user, self.query(OneSiteQuery)["site_id"])
        return Response(_shown(site, site_configuration.find(site)))

    @extend_schema(
        operation_id="replace_config",
        summary="Say when the runs of a site start by themselves",
        description="Everything that is left out has its default. Several schedules of a site: `/api/v1/schedules/`.",
        parameters=[OneSiteQuery, *schema.COMMAND_PARAMETERS],
        request=NewConfigurationSerializer,
        responses=answers({200: ConfigurationSerializer}, *COMMAND),
    )
    @idempotent
    def put(self, request: Request) -> Response:
        site = selection.find_site(request.user, self.query(OneSiteQuery)["site_id"])
        given = self.body(NewConfigurationSerializer)
        fields = {_NAMES.get(name, name): value for name, value in given.items()}
        try:
            schedule = site_configuration.replace(site, fields, actor=self.actor)
        except InvalidSchedule as error:
            told = str(error)
            for name, column in _NAMES.items():
                told = told.replace(f": {column}: ", f": {name}: ")
            raise InvalidSchedule(told) from None
        return Response(_shown(site, schedule))


class PipelineOverview(AutomationView):
    """A site's stages."""

    @extend_schema(
        operation_id="pipeline_overview",
        summary="Show the stages of a site's pipeline with what each has to do",
        parameters=[OneSiteQuery, schema.REQUEST_ID],
        responses=answers({200: OverviewSerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        site = selection.find_site(request.user, self.query(OneSiteQuery)["site_id"])
        run = choice.current(request.user, site) or _newest(request.user, site)
        return Response(_of_run(run) if run is not None else _of_configuration(site_configuration.find(site)))


class Estimate(AutomationView):
    """How long a run would take."""

    @extend_schema(
        operation_id="estimate",
        summary="Estimate the working time of a run by the rate of earlier ones",
        parameters=[EstimateQuery, schema.REQUEST_ID],
        responses=answers({200: EstimateSerializer}, *READ),
    )
    def get(self, request: Request) -> Response:
        query = self.query(EstimateQuery)
        site = selection.find_site(request.user, query["site_id"])
        schedule = site_configuration.find(site)
        slug = query.get("pipeline") or (schedule.pipeline if schedule else None)
        if slug is None:
            raise InvalidSchedule(f"Cannot estimate: site {site.slug} has no configuration; expected a pipeline.")
        items = query.get("items")
        if items is None:
            items = _items(request.user, site, get_pipeline(slug).slug, schedule)
        return Response(estimates.of_items(site, slug, items))


def _items(user: Any, site: Site, pipeline: str, schedule: Schedule | None) -> int | None:
    if schedule is not None and schedule.pipeline == pipeline and schedule.items is not None:
        return len(schedule.items)
    newest = _newest(user, site, pipeline)
    return newest.total_items if newest else None


def _newest(user: Any, site: Site, pipeline: str | None = None) -> AutomationRun | None:
    rows = selection.visible(user).filter(site=site)
    if pipeline is not None:
        rows = rows.filter(pipeline=pipeline)
    run: AutomationRun | None = rows.order_by("-created_at", "-id").first()
    return run


def _shown(site: Site, schedule: Schedule | None) -> dict[str, Any]:
    if schedule is None:
        empty = dict.fromkeys(ConfigurationSerializer().fields)
        return {**empty, "site_id": site.slug, "is_enabled": False}
    last = site_configuration.last_run(schedule)
    comes = schedule.is_enabled and schedule.paused_at is None
    columns = set(definitions.FIELDS) & set(ConfigurationSerializer().fields)
    return {
        "site_id": site.slug,
        "schedule_id": schedule.pk,
        **{name: getattr(schedule, name) for name in columns},
        "frequency": schedule.kind,
        "scheduled_time": schedule.at.strftime("%H:%M") if schedule.at else None,
        "in_words": schedule.rule.words(),
        "last_run_at": last.started_at if last else None,
        "next_run_at": schedule.comes_at if comes else None,
    }


def _of_run(run: AutomationRun) -> dict[str, Any]:
    stages = progress.snapshot(run)["stages"]
    wanted = OverviewStageSerializer().fields
    return {
        "pipeline": run.pipeline,
        "run_id": run.pk,
        "status": selection.shown_status(run),
        "stages": [{name: stage[name] for name in wanted} for stage in stages],
    }


def _of_configuration(schedule: Schedule | None) -> dict[str, Any]:
    zeros = {"total_items": 0, "processed_items": 0, "failed_items": 0, "remaining_count": 0, "percentage": 0.0}
    stages = get_pipeline(schedule.pipeline).stages if schedule else ()
    return {
        "pipeline": schedule.pipeline if schedule else None,
        "run_id": None,
        "status": None,
        "stages": [{"slug": stage.slug, "title": stage.title, "status": None, **zeros} for stage in stages],
    }
