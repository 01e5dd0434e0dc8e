"""Refuses attempts over the limit, on every channel."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware

from backend.lockout import tokens


@sync_and_async_middleware
def middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Check and count the token of a request, and replace the response to a locked-out form."""
    if iscoroutinefunction(get_response):

        async def handle_async(request: HttpRequest) -> HttpResponse:
            guard = tokens.guard_of(request)
            if guard is not None and guard.known not in tokens.fresh:
                refused = await sync_to_async(tokens.refusal)(request, guard)
                if refused is not None:
                    return refused
            awaited: Awaitable[HttpResponse] = get_response(request)
            response = await awaited
            if guard is not None and not tokens.is_settled(request, response, guard):
                await sync_to_async(tokens.settle)(request, response, guard)
            if _is_locked_out(request):
                return await sync_to_async(_page)(request)
            return response

        return handle_async

    def handle(request: HttpRequest) -> HttpResponse:
        guard = tokens.guard_of(request)
        if guard is not None and (refused := tokens.refusal(request, guard)) is not None:
            return refused
        response: HttpResponse = get_response(request)
        if guard is not None:
            tokens.settle(request, response, guard)
        return _page(request) if _is_locked_out(request) else response

    return handle


def _is_locked_out(request: HttpRequest) -> bool:
    return hasattr(request, "lockout_seconds")


def _page(request: HttpRequest) -> HttpResponse:
    """Return the page that says when to try again, in place of the refused form."""
    seconds = math.ceil(request.lockout_seconds)  # type: ignore[attr-defined]
    found = {"at": timezone.now() + timedelta(seconds=seconds), "back": request.get_full_path()}
    response = render(request, "429.html", found, status=429)
    response["Retry-After"] = str(seconds)
    response["Cache-Control"] = "no-store"
    return response
