"""The files that the stages of a run have written."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from pathlib import PurePosixPath
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from automation.files import reading
from automation.files.reading import StoredFile
from automation.files.storage import StorageAway
from backend.console import access
from pause_manager.observability.streaming import streamed

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


UNSTREAMED_BYTES = 256 * 1024
"""Up to this size a response is sent whole: a stream is not worth it."""
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@require_safe
@access.for_viewers
def file(request: HttpRequest, run_id: UUID, name: str) -> HttpResponseBase:
    """Respond with a file in the run's folder, or the requested range of it, to users who may see the run."""
    run = access.visible_run(request, run_id)
    try:
        found = reading.find(run.pk, name)
        response = None if found is None else _respond(request, name, found)
    except StorageAway as away:
        return HttpResponse(f"{away}\n", status=503, content_type="text/plain; charset=utf-8", headers=_HEADERS)
    except FileNotFoundError:
        raise Http404 from None
    if response is None:
        raise Http404
    return response


_HEADERS = {"Content-Security-Policy": access.FILE_POLICY, "X-Content-Type-Options": "nosniff"}


def _respond(request: HttpRequest, name: str, found: StoredFile) -> HttpResponseBase:
    path = PurePosixPath(name)
    etag = f'"{hashlib.sha256(f"{found.location} {found.size} {found.written_at}".encode()).hexdigest()[:24]}"'
    unchanged = get_conditional_response(request, etag=etag)
    if unchanged is not None:
        return unchanged
    part = _range_of(request, found.size, etag)
    if part is not None and part[0] >= part[1]:
        return HttpResponse(status=416, headers={**_HEADERS, "Content-Range": f"bytes */{found.size}"})
    start, stop = part or (0, found.size)
    kind = SHOWN.get(path.suffix.lower())
    charset = "; charset=utf-8" if kind and kind.startswith(("text/", "application/json")) else ""
    content_type = f"{kind or mimetypes.guess_type(path.name)[0] or 'application/octet-stream'}{charset}"
    status = 200 if part is None else 206
    pieces = iter(()) if request.method == "HEAD" else found.read(start, stop)
    response: HttpResponse | StreamingHttpResponse
    if stop - start <= UNSTREAMED_BYTES:
        response = HttpResponse(b"".join(pieces), content_type=content_type, status=status)
    else:
        response = streamed(request, pieces, content_type=content_type, status=status)
    response["Content-Length"] = str(stop - start)
    if part is not None:
        response["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
    if kind is None:
        response["Content-Disposition"] = "attachment"
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = etag
    for header, value in _HEADERS.items():
        response[header] = value
    response["Cache-Control"] = "private, no-cache"
    return response


def _range_of(request: HttpRequest, size: int, etag: str) -> tuple[int, int] | None:
    """Return (start, stop) of the requested range; ``None`` for the whole file. Empty if it is outside the file."""
    match = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if match is None or match[0] == "bytes=-" or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = match[1], match[2]
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
