"""``/mcp``: streamable HTTP without sessions, one JSON response per POST.

Every request brings its token and is served by a manager of its own, which ends with it: nothing has to be started
with the web server, and any of several servers can respond.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt

from automation import conf
from backend.mcp import authentication

TRANSPORT = "backend.mcp.transport.exchange"
"""Loaded by the first request: its SDK takes two seconds to import, which no command or web process should wait for."""


@csrf_exempt  # cookies give no access
async def endpoint(request: HttpRequest) -> HttpResponse:
    """Respond to one message of a client."""
    if request.method != "POST":
        response = _refused(405, "method_not_allowed", "Cannot do that: expected POST, since there is no stream here.")
        response["Allow"] = "POST"
        return response
    if not _is_own(request):
        return _refused(403, "origin_forbidden", "Cannot serve a web page of another site.")
    try:
        caller = await sync_to_async(authentication.of_request)(request)
    except authentication.NotAdmitted as refusal:
        found = refusal.response
        response = _refused(found.status_code, **found.data)
        for name in _PASSED_ON:
            if name in found.headers:
                response[name] = found.headers[name]
        return response
    limit = conf.settings().max_json_bytes
    body = request.read(limit + 1)
    if len(body) > limit:
        return _refused(413, "body_too_large", f"Cannot read the request: it is larger than {limit:,} bytes.")
    exchange = cast(Exchange, await sync_to_async(import_string)(TRANSPORT))
    return await exchange(request, body, caller)


Exchange = Callable[[HttpRequest, bytes, authentication.Caller], Awaitable[HttpResponse]]

_PASSED_ON = ("WWW-Authenticate", "Retry-After")
_INVALID_REQUEST = -32600


def _is_own(request: HttpRequest) -> bool:
    """Return whether the request comes from no web page, or from one of this site or a trusted one."""
    origin = request.headers.get("Origin")
    own = f"{request.scheme}://{request.get_host()}"
    return origin is None or origin == own or origin in settings.CSRF_TRUSTED_ORIGINS


def _refused(status: int, code: str, message: str, **more: Any) -> HttpResponse:
    """An error whose sentence clients show to people; ``data`` is the body of the REST response."""
    data = {"code": code, "message": message, **more}
    error = {"code": _INVALID_REQUEST, "message": f"{message} ({code})", "data": data}
    return JsonResponse({"jsonrpc": "2.0", "id": None, "error": error}, status=status)
