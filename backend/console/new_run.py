"""The page that starts a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from automation import conf
from automation.errors import AutomationError, InvalidInput, UnknownPipeline
from automation.inputs import Input, Report
from automation.models import AutomationRun, Site
from automation.pipeline import Pipeline, all_pipelines, get_pipeline, run_input
from automation.runs import creation
from backend.console import access
from backend.console.param_fields import ParamField, given_params
from pause_manager.actor import Actor

PREVIEW_COLUMNS = 8
LONGEST_CELL = 60
NOT_PREVIEWED = "Check the preview, then start."
NOT_PREVIEWED_FILE = f"{NOT_PREVIEWED} Choose the file again: the browser does not keep it."


@dataclass(frozen=True)
class Preview:
    """A preview of an input before a run is started from it."""

    report: Report
    digest: str
    """Digest of the previewed input: the run starts only from this."""

    @property
    def columns(self) -> list[str]:
        names: dict[str, None] = {}
        for item in self.report.first_items:
            names |= dict.fromkeys(item)
        return list(names)[:PREVIEW_COLUMNS]

    @property
    def more_columns(self) -> int:
        return max(0, max(map(len, self.report.first_items)) - PREVIEW_COLUMNS)

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        return [[_shortened(item.get(column, "")) for column in self.columns] for item in self.report.first_items]

    @property
    def more_items(self) -> int:
        return self.report.count - len(self.report.first_items)


def _shortened(cell: Any) -> str:
    text = str(cell)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"


@require_http_methods(["GET", "HEAD", "POST"])
@access.for_viewers
@permission_required(access.OPERATE, raise_exception=True)
def page(request: HttpRequest) -> HttpResponse:
    """Show and process the form. A refusal appears above it, and the form keeps its values.

    The form sends the digest of the previewed input as ``seen``: a different input is previewed first.
    """
    given = (request.POST if request.method == "POST" else request.GET).dict()
    error = ""
    preview = None
    try:
        chosen = get_pipeline(given.get("pipeline") or "content")
    except UnknownPipeline as unknown:
        chosen, error = all_pipelines()[0], str(unknown) if given.get("pipeline") else ""
    sites = Site.objects.visible_to(request.user).taking_runs().order_by("name")[:500]
    if request.method == "POST" and not error:
        try:
            read = _read(request, given, chosen)
            if read and "seen" in given:
                preview = Preview(read.report, _digest(request, given, chosen))
            if preview is None or preview.digest == given["seen"]:
                return redirect("console:run", run_id=_create(request, chosen, given, read).pk)
            error = NOT_PREVIEWED_FILE if request.FILES else NOT_PREVIEWED
        except AutomationError as refusal:
            error = str(refusal)
    context = {
        "pipelines": all_pipelines(),
        "chosen": chosen,
        "sites": sites,
        "params": [ParamField.of(param, given, {}) for param in chosen.params],
        "given": given,
        "error": error,
        "preview": preview,
    }
    return render(request, "console/start.html", context, status=422 if error else 200)


@require_POST
@access.for_viewers
@permission_required(access.OPERATE, raise_exception=True)
def preview(request: HttpRequest) -> HttpResponse:
    """Show what would be read, or why it would be refused; creates nothing."""
    given = request.POST.dict()
    try:
        chosen = get_pipeline(given.get("pipeline", ""))
        if not request.FILES and not given.get("text", "").strip():
            return render(request, "console/_preview.html")
        read = _read(request, given, chosen)
    except AutomationError as refusal:
        return render(request, "console/_preview.html", {"refusal": str(refusal)})
    shown = Preview(read.report, _digest(request, given, chosen)) if read else None
    return render(request, "console/_preview.html", {"preview": shown})


def _create(request: HttpRequest, pipeline: type[Pipeline], given: dict[str, str], read: Input | None) -> AutomationRun:
    site = Site.objects.visible_to(request.user).filter(slug=given.get("site", "")).first()
    if site is None:
        raise InvalidInput("Cannot create the run: the site does not exist, or you do not have access to it.")
    return creation.create(
        pipeline.slug,
        site=site,
        actor=Actor.user(request.user, channel="console"),
        params=given_params(given),
        items=read,
    )


def _read(request: HttpRequest, given: dict[str, str], pipeline: type[Pipeline]) -> Input | None:
    """Read the uploaded file, else the typed text; ``None`` for a pipeline that makes its own items."""
    if not pipeline.needs_input:
        return None
    most = conf.settings().max_upload_bytes
    if int(request.META.get("CONTENT_LENGTH") or 0) > most:
        raise InvalidInput(f"Cannot use the file: expected at most {most:,} bytes, got more.")
    file = request.FILES.get("input")
    if file is not None and given.get("text", "").strip():
        raise InvalidInput("Cannot create the run: expected a file or text, got both.")
    if file is not None:
        return run_input.of_file(pipeline, file.file, file.name or "input")  # type: ignore[arg-type]
    if not given.get("text", "").strip():
        raise InvalidInput(f"Cannot create the run: expected {pipeline.reader.needs}, got none.")
    return run_input.of_text(pipeline, given["text"])


def _digest(request: HttpRequest, given: dict[str, str], pipeline: type[Pipeline]) -> str:
    digest = hashlib.sha256(pipeline.slug.encode())
    file = request.FILES.get("input")
    if file is None:
        digest.update(given.get("text", "").encode("utf-8", "surrogatepass"))
    else:
        digest.update((file.name or "").encode())
        for chunk in file.chunks():
            digest.update(chunk)
    return digest.hexdigest()
