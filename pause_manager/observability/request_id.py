"""``X-Request-ID``: the caller's id of a request, else a new one, in its log lines, its events and its answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from pause_manager.observability import log_context

HEADER = "X-Request-ID"
_VALID = re.compile(r"[\x21-\x7e]{1,100}")


def of(request: HttpRequest) -> str:
    """The id of ``request``: that which the middleware has given it, the caller's if it can be used, or a new one."""
    known: str = getattr(request, "request_id", "")
    if known:
        return known
    given = request.headers.get(HEADER, "")
    return given if _VALID.fullmatch(given) else uuid.uuid4().hex


@sync_and_async_middleware
def middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Bind the id round everything that the request does."""
    if iscoroutinefunction(get_response):

        async def handle_async(request: HttpRequest) -> HttpResponse:
            request.request_id = of(request)  # type: ignore[attr-defined]
            with log_context.bound(request_id=request.request_id):  # type: ignore[attr-defined]
                awaited: Awaitable[HttpResponse] = get_response(request)
                return _marked(await awaited, request)

        return handle_async

    def handle(request: HttpRequest) -> HttpResponse:
        request.request_id = of(request)  # type: ignore[attr-defined]
        with log_context.bound(request_id=request.request_id):  # type: ignore[attr-defined]
            return _marked(get_response(request), request)

    return handle


def _marked(response: HttpResponse, request: HttpRequest) -> HttpResponse:
    response.headers[HEADER] = of(request)
    return response
