"""The page that starts a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from automation import inputs, lifecycle
from automation.declaration import Param
from automation.errors import AutomationError, InvalidInput, UnknownPipeline
from automation.models import AutomationRun, Site
from automation.pipeline import Pipeline, all_pipelines, get_pipeline
from backend.console import access
from pause_manager.actor import Actor

PREFIX = "param-"


@dataclass(frozen=True)
class ParamField:
    """One parameter as the form shows it."""

    name: str
    label: str
    help: str
    kind: str
    step: str
    choices: list[str]
    value: str

    @classmethod
    def of(cls, param: Param, given: dict[str, str]) -> ParamField:
        kind = "number" if param.type in (int, float) else "text"
        step = {int: "1", float: "any"}.get(param.type, "")
        choices = [str(choice) for choice in param.choices] or (["true", "false"] if param.type is bool else [])
        default = str(param.default).lower() if param.type is bool else str(param.default)
        value = given.get(f"{PREFIX}{param.name}", default)
        label = param.name.replace("_", " ").capitalize()
        return cls(param.name, label, param.help, kind, step, choices, value)


@require_http_methods(["GET", "HEAD", "POST"])
@access.for_viewers
@permission_required(access.OPERATE, raise_exception=True)
def page(request: HttpRequest) -> HttpResponse:
    """Choose a pipeline, give it input and parameters; a refusal is told above the form, which keeps what was typed."""
    given = (request.POST if request.method == "POST" else request.GET).dict()
    error = ""
    try:
        chosen = get_pipeline(given.get("pipeline") or "content")
    except UnknownPipeline as unknown:
        chosen, error = all_pipelines()[0], str(unknown) if given.get("pipeline") else ""
    sites = Site.objects.visible_to(request.user).taking_runs().order_by("name")[:500]
    if request.method == "POST" and not error:
        try:
            return redirect("console:run", run_id=_create(request, chosen, given).pk)
        except AutomationError as refusal:
            error = str(refusal)
    context = {
        "pipelines": all_pipelines(),
        "chosen": chosen,
        "sites": sites,
        "params": [ParamField.of(param, given) for param in chosen.params],
        "given": given,
        "error": error,
    }
    return render(request, "console/start.html", context, status=422 if error else 200)


def _create(request: HttpRequest, pipeline: type[Pipeline], given: dict[str, str]) -> AutomationRun:
    site = Site.objects.visible_to(request.user).filter(slug=given.get("site", "")).first()
    if site is None:
        raise InvalidInput("Cannot create the run: the site does not exist, or is not yours.")
    return lifecycle.create(
        pipeline.slug,
        site=site,
        actor=Actor.user(request.user, channel="console"),
        params={name.removeprefix(PREFIX): value for name, value in given.items() if name.startswith(PREFIX)},
        items=_items(request, given) if pipeline.needs_input else None,
    )


def _items(request: HttpRequest, given: dict[str, str]) -> Any:
    file = request.FILES.get("input")
    if file is not None:
        return inputs.read_keywords(file.file, file.name or "input").items()  # type: ignore[arg-type]
    lines = [line for line in given.get("keywords", "").splitlines() if line.strip()]
    if not lines:
        raise InvalidInput("Cannot create the run: expected a file or at least one keyword, got none.")
    return inputs.from_records([{"keyword": line} for line in lines], "keywords").items()
