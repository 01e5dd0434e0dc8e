"""Files that the stages of a run have written."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath
from uuid import UUID

from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from backend.console import access

SHOWN = {
    ".html": "text/html",
    ".md": "text/plain",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".json": "application/json",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


@require_safe
@access.for_viewers
def file(request: HttpRequest, run_id: UUID, name: str) -> HttpResponse:
    """A file below the run's own folder, to those who may see the run."""
    run = access.visible_run(request, run_id)
    path = PurePosixPath(name)
    if ".." in path.parts or path.is_absolute():
        raise Http404
    try:
        with default_storage.open(f"runs/{run.pk}/{path}", "rb") as content:
            body = content.read()
    except (OSError, SuspiciousFileOperation, ValueError):
        raise Http404 from None
    kind = SHOWN.get(path.suffix.lower())
    charset = "; charset=utf-8" if kind and kind.startswith(("text/", "application/json")) else ""
    guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    answer = HttpResponse(body, content_type=f"{kind or guessed}{charset}")
    if kind is None:
        answer["Content-Disposition"] = "attachment"
    answer["Content-Security-Policy"] = access.FILE_POLICY
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, max-age=60"
    return answer
