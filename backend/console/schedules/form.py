"""The form of a schedule: new or changed, with its rule in words and its next times before it is saved."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from automation.errors import AutomationError, InvalidSchedule, UnknownPipeline
from automation.models import Schedule, Site
from automation.pipeline import Pipeline, all_pipelines, get_pipeline
from automation.runs.lane_moves import PRIORITIES
from automation.schedules import definitions, report
from backend.console import access
from backend.console.param_fields import ParamField
from backend.console.schedules import fields
from pause_manager.actor import Actor
from pause_manager.console import rules
from pause_manager.errors import PauseManagerError
from pause_manager.models.clock import database_now
from pause_manager.recurrence import Rule

DEFAULTS = {
    **rules.DEFAULTS,
    "priority": "3",
    "catch_up": Schedule.CatchUp.LAST.value,
    "is_enabled": "on",
    "skip_if_active": "on",
}
"""What a new schedule begins with."""
MOST_SITES = 500


@require_http_methods(["GET", "HEAD", "POST"])
@access.for_viewers
@access.for_operators
def new(request: HttpRequest) -> HttpResponse:
    """Show and process the form of a new schedule; a refusal appears above it, and it keeps what was typed."""
    given = request.POST.dict() if request.method == "POST" else DEFAULTS | request.GET.dict()
    error = ""
    try:
        pipeline = get_pipeline(given.get("pipeline") or all_pipelines()[0].slug)
    except UnknownPipeline as unknown:
        pipeline, error = all_pipelines()[0], str(unknown)
    if request.method == "POST" and not error:
        try:
            return _saved(_create(request, given, pipeline))
        except (AutomationError, PauseManagerError) as refusal:
            error = str(refusal)
    return _shown(request, given, pipeline, error)


@require_http_methods(["GET", "HEAD", "POST"])
@access.for_viewers
@access.for_operators
def edit(request: HttpRequest, schedule_id: int) -> HttpResponse:
    """Show and process the form of a schedule that exists."""
    schedule = Schedule.objects.visible_to(request.user).select_related("site__account").filter(pk=schedule_id).first()
    if schedule is None:
        raise Http404
    given = request.POST.dict() if request.method == "POST" else fields.texts_of(schedule)
    error = ""
    try:
        pipeline = get_pipeline(schedule.pipeline)
    except UnknownPipeline as unknown:
        return render(request, "404.html", {"message": str(unknown)}, status=404)
    if request.method == "POST":
        try:
            found = fields.fields_of(given, pipeline, had_items=schedule.items is not None)
            actor = Actor.user(request.user, channel="console")
            return _saved(definitions.change(schedule.pk, found, actor=actor, reason=_reason(given)))
        except (AutomationError, PauseManagerError) as refusal:
            error = str(refusal)
    return _shown(request, given, pipeline, error, schedule=schedule)


@require_POST
@access.for_viewers
@access.for_operators
def preview(request: HttpRequest) -> HttpResponse:
    """Show the rule in words and its next times, or what is wrong with it; saves nothing."""
    return render(request, "console/schedules/_coming.html", _coming(request.POST.dict()))


def _coming(given: dict[str, str]) -> dict[str, Any]:
    now = database_now()
    try:
        rule = Rule(**rules.rule_of(given), anchor=now.replace(second=0, microsecond=0))
        rule.check()
    except (AutomationError, PauseManagerError) as refusal:
        return {"refusal": str(refusal)}
    times = rule.take(now, report.COMING)
    return {"words": rule.words(), "times": [(at, report.local(at, rule.zone)) for at in times]}


def _create(request: HttpRequest, given: dict[str, str], pipeline: type[Pipeline]) -> Schedule:
    site = Site.objects.visible_to(request.user).filter(slug=given.get("site", "")).first()
    if site is None:
        raise InvalidSchedule("Cannot save the schedule: the site does not exist, or you do not have access to it.")
    found = fields.fields_of(given, pipeline, had_items=False)
    actor = Actor.user(request.user, channel="console")
    return definitions.create(site, found, actor=actor, reason=_reason(given))


def _reason(given: dict[str, str]) -> str:
    return given.get("reason", "").strip()[:500]


def _saved(schedule: Schedule) -> HttpResponse:
    response = redirect("console:schedules")
    response["Location"] += f"#schedule-{schedule.pk}"
    return response


def _shown(
    request: HttpRequest,
    given: dict[str, str],
    pipeline: type[Pipeline],
    error: str,
    *,
    schedule: Schedule | None = None,
) -> HttpResponse:
    kept = schedule.params if schedule is not None else {}
    context = {
        "schedule": schedule,
        "pipelines": all_pipelines(),
        "chosen": pipeline,
        "sites": Site.objects.visible_to(request.user).taking_runs().order_by("name")[:MOST_SITES],
        "given": given,
        "error": error,
        "params": [ParamField.of(param, given, kept) for param in pipeline.params],
        "kinds": rules.KIND_WORDS.items(),
        "zones": sorted(available_timezones()),
        "catch_ups": Schedule.CatchUp.choices,
        "priorities": PRIORITIES,
        "kept_items": len(schedule.items) if schedule is not None and schedule.items is not None else 0,
        "coming": _coming(given),
    }
    return render(request, "console/schedules/form.html", context, status=422 if error else 200)
