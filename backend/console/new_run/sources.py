"""What a run is started from, as the form of the console gives it: a file, text, the sample, or the input of a run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from automation import conf
from automation.errors import InvalidInput
from automation.inputs import Input
from automation.models import AutomationRun, WorkItem
from automation.pipeline import Pipeline, run_input
from automation.reports import payload_access
from automation.runs import run_names

MOST_REPEATED = 20_000
"""Items of an earlier run's input that the form reads again; a larger one is started from its file."""
INPUT_POSITION = -1


@dataclass(frozen=True)
class Source:
    """An input that was read, and a digest of it: a run starts only from what was previewed."""

    read: Input
    digest: str


def is_given(request: HttpRequest, given: Mapping[str, str]) -> bool:
    """Whether the form has an input at all."""
    return bool(request.FILES) or any(given.get(name, "").strip() for name in ("text", "sample", "same"))


def read(request: HttpRequest, given: Mapping[str, str], pipeline: type[Pipeline]) -> Source | None:
    """Read what the form has; ``None`` for a pipeline that makes its own items. Raises ``InvalidInput``."""
    if not pipeline.needs_input:
        return None
    most = conf.settings().max_upload_bytes
    if int(request.META.get("CONTENT_LENGTH") or 0) > most:
        raise InvalidInput(f"Cannot use the file: expected at most {most:,} bytes, got more.")
    file, text = request.FILES.get("input"), given.get("text", "")
    if file is not None and text.strip():
        raise InvalidInput("Cannot create the run: expected a file or text, got both.")
    digest = hashlib.sha256(pipeline.slug.encode())
    if file is not None:
        digest.update((file.name or "").encode())
        for chunk in file.chunks():
            digest.update(chunk)
        return Source(run_input.of_file(pipeline, file.file, file.name or "input"), digest.hexdigest())  # type: ignore[arg-type]
    if text.strip():
        digest.update(text.encode("utf-8", "surrogatepass"))
        return Source(run_input.of_text(pipeline, text), digest.hexdigest())
    if given.get("sample") and pipeline.sample is not None:
        digest.update(b"sample")
        content = io.BytesIO(pipeline.sample.read_bytes())
        return Source(run_input.of_file(pipeline, content, pipeline.sample.name), digest.hexdigest())
    if given.get("same"):
        digest.update(given["same"].encode())
        return Source(_of_run(request.user, given["same"], pipeline), digest.hexdigest())
    raise InvalidInput(f"Cannot create the run: expected {pipeline.reader.needs}, got none.")


def run_named(user: Any, name: str) -> AutomationRun | None:
    """The run of this id, if ``user`` may see it."""
    try:
        run_id = UUID(name)
    except ValueError:
        return None
    found: AutomationRun | None = (
        AutomationRun.objects.visible_to(user).present().select_related("site").filter(pk=run_id).first()
    )
    return found


def may_repeat(user: Any, run: AutomationRun) -> bool:
    """Whether the form offers the input of ``run`` again."""
    return payload_access.may_view(user) and run.retry_of_id is None and 0 < run.total_items <= MOST_REPEATED


def _of_run(user: Any, name: str, pipeline: type[Pipeline]) -> Input:
    run = run_named(user, name)
    if run is None or run.pipeline != pipeline.slug:
        raise InvalidInput(f"Cannot use the input of run {name[:40]}: no such run of {pipeline.slug} exists.")
    if not may_repeat(user, run):
        raise InvalidInput(
            f"Cannot use the input of run {run_names.short(run.pk)}: expected 1 to {MOST_REPEATED:,} items of a run "
            "that is not a retry, and the permission to see payloads."
        )
    return run_input.of_records(pipeline, _items(run))


def _items(run: AutomationRun) -> list[Any]:
    rows = WorkItem.objects.filter(made_by__run=run, made_by__position=INPUT_POSITION).order_by("key")
    return list(rows.values_list("payload", flat=True))
