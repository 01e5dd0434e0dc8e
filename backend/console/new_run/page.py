"""The page that starts a run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from automation.errors import AutomationError, InvalidInput, UnknownPipeline
from automation.gate import lane_order
from automation.inputs import Input
from automation.models import AutomationRun, Site
from automation.pipeline import Pipeline, all_pipelines, get_pipeline, pacing
from automation.runs import creation, run_names
from automation.runs.lane_moves import PRIORITIES
from backend.console import access
from backend.console.new_run import sources
from backend.console.new_run.preview import Preview, estimate_of
from backend.console.param_fields import ParamField, given_params
from pause_manager.actor import Actor

NOT_PREVIEWED = "Check the preview, then start."
NOT_PREVIEWED_FILE = f"{NOT_PREVIEWED} Choose the file again: the browser does not keep it."
UNITS = {"minutes": 60, "hours": 3_600}
USUAL_PRIORITY = "3"
MOST_AFTER = 20


@require_http_methods(["GET", "HEAD", "POST"])
@access.for_viewers
@access.for_operators
def page(request: HttpRequest) -> HttpResponse:
    """Show and process the form. A refusal appears above it, and the form keeps its values.

    The form sends the digest of the previewed input as ``seen``: a different input is previewed first. ``again`` in the
    query string is the id of a run whose pipeline, site, parameters and input are filled in.
    """
    given = (request.POST if request.method == "POST" else request.GET).dict()
    error = ""
    preview = None
    again = sources.run_named(request.user, given["again"]) if given.get("again") else None
    if again is not None and request.method != "POST":
        given = _of_run(request, again) | given
    try:
        chosen = get_pipeline(given.get("pipeline") or "content")
    except UnknownPipeline as unknown:
        chosen, error = all_pipelines()[0], str(unknown) if given.get("pipeline") else ""
    sites = Site.objects.visible_to(request.user).taking_runs().order_by("name")[:500]
    if request.method == "POST" and not error:
        try:
            source = sources.read(request, given, chosen)
            if source and "seen" in given:
                preview = Preview(source.read.report, source.digest)
            if preview is None or preview.digest == given["seen"]:
                made = _create(request, chosen, given, source.read if source else None)
                return redirect("console:run", run_id=made.pk)
            error = NOT_PREVIEWED_FILE if request.FILES else NOT_PREVIEWED
        except AutomationError as refusal:
            error = str(refusal)
    site = _site(request, given) or sites.first()
    context = {
        "pipelines": all_pipelines(),
        "chosen": chosen,
        "sites": sites,
        "params": [ParamField.of(param, given, again.params if again is not None else {}) for param in chosen.params],
        "given": given,
        "error": error,
        "preview": preview,
        "again": again,
        "may_repeat": again is not None and sources.may_repeat(request.user, again),
        "estimate": estimate_of(site, chosen.slug, preview.report.count if preview else None),
        "ahead": lane_order.ahead_of_new(site.slug) if site is not None else [],
        "priorities": [str(one) for one in PRIORITIES],
        "units": UNITS,
        "are_rules_open": any(given.get(name) for name in ("timeout", "after", "pacing"))
        or given.get("priority", USUAL_PRIORITY) != USUAL_PRIORITY,
    }
    return render(request, "console/new_run/page.html", context, status=422 if error else 200)


@require_POST
@access.for_viewers
@access.for_operators
def preview(request: HttpRequest) -> HttpResponse:
    """Show what would be read, or why it would be refused; creates nothing."""
    given = request.POST.dict()
    try:
        chosen = get_pipeline(given.get("pipeline", ""))
        if not sources.is_given(request, given):
            return render(request, "console/new_run/_preview.html")
        source = sources.read(request, given, chosen)
    except AutomationError as refusal:
        return render(request, "console/new_run/_preview.html", {"refusal": str(refusal)})
    if source is None:
        return render(request, "console/new_run/_preview.html")
    shown = Preview(source.read.report, source.digest)
    estimate = estimate_of(_site(request, given), chosen.slug, shown.report.count)
    return render(request, "console/new_run/_preview.html", {"preview": shown, "estimate": estimate})


def _of_run(request: HttpRequest, run: AutomationRun) -> dict[str, str]:
    """The fields of the form that are filled in from ``run``."""
    found = {"pipeline": run.pipeline, "site": run.site.slug, "priority": str(run.priority)}
    if run.timeout_seconds:
        found |= {"timeout": f"{run.timeout_seconds / 60:g}", "timeout_unit": "minutes"}
    if run.pacing:
        found["pacing"] = " ".join(pacing.words(run.pacing))
    return found | ({"same": str(run.pk)} if sources.may_repeat(request.user, run) else {})


def _site(request: HttpRequest, given: dict[str, str]) -> Site | None:
    found: Site | None = Site.objects.visible_to(request.user).filter(slug=given.get("site", "")).first()
    return found


def _create(request: HttpRequest, pipeline: type[Pipeline], given: dict[str, str], read: Input | None) -> AutomationRun:
    site = _site(request, given)
    if site is None:
        raise InvalidInput("Cannot create the run: the site does not exist, or you do not have access to it.")
    return creation.create(
        pipeline.slug,
        site=site,
        actor=Actor.user(request.user, channel="console"),
        params=given_params(given),
        items=read,
        timeout_seconds=_timeout(given),
        priority=_priority(given),
        after=_after(request.user, given),
        pace=pacing.of_options(given.get("pacing", "").replace(",", " ").split()),
    )


def _priority(given: dict[str, str]) -> int:
    text = given.get("priority") or USUAL_PRIORITY
    if text not in {str(one) for one in PRIORITIES}:
        raise InvalidInput(f"Cannot create the run: expected a priority of 1 (first) to 5, got: {text[:40]}.")
    return int(text)


def _timeout(given: dict[str, str]) -> float | None:
    """Seconds; ``None`` takes the timeout of the pipeline."""
    text, unit = given.get("timeout", "").strip(), given.get("timeout_unit", "minutes")
    if not text:
        return None
    try:
        found = float(text) * UNITS.get(unit, 60)
    except ValueError:
        found = 0.0
    if not 0 < found <= 366 * 86_400:
        raise InvalidInput(f"Cannot create the run: expected as timeout more than 0 {unit}, got: {text[:40]}.")
    return found


def _after(user: Any, given: dict[str, str]) -> list[UUID]:
    names = given.get("after", "").replace(",", " ").split()
    if len(names) > MOST_AFTER:
        raise InvalidInput(f"Cannot create the run: expected at most {MOST_AFTER} runs to wait for, got {len(names)}.")
    runs = AutomationRun.objects.visible_to(user)
    return [run_names.find(name, runs).pk for name in names]
