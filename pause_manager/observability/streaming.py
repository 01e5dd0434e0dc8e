"""Answers that are sent piece by piece, in constant memory under ASGI as under WSGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse


def download(request: HttpRequest, pieces: Iterator[bytes], *, name: str, content_type: str) -> StreamingHttpResponse:
    """``pieces`` as a file called ``name``."""
    answer = streamed(request, pieces, content_type=content_type)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def streamed(
    request: HttpRequest, pieces: Iterator[bytes], *, content_type: str, status: int = 200
) -> StreamingHttpResponse:
    """``pieces`` as they come.

    Django would gather a plain iterator whole before it sends it under ASGI.
    """
    content = _each(pieces) if isinstance(request, ASGIRequest) else pieces
    return StreamingHttpResponse(content, content_type=content_type, status=status)


async def _each(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    take = sync_to_async(lambda: next(pieces, None))
    while (piece := await take()) is not None:
        yield piece
