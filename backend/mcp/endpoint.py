"""``/mcp``: streamable HTTP without sessions, one JSON answer to each POST.

Every request brings its token and is served by a manager of its own, which ends with it: nothing has to be started
with the web server, and any of several servers can answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from automation import conf
from backend.mcp import callers

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.types import Message


@csrf_exempt  # no cookie opens it
async def endpoint(request: HttpRequest) -> HttpResponse:
    """Answer one message of a client."""
    if request.method != "POST":
        answer = _refused(405, "method_not_allowed", "Cannot do that: there is no stream here, only POST.")
        answer["Allow"] = "POST"
        return answer
    if not _is_own(request):
        return _refused(403, "origin_forbidden", "Cannot answer a web page of another site.")
    try:
        caller = await sync_to_async(callers.of_request)(request)
    except callers.NotAdmitted as refusal:
        found = refusal.response
        answer = _refused(found.status_code, **found.data)
        for name in _TOLD:
            if name in found.headers:
                answer[name] = found.headers[name]
        return answer
    limit = conf.settings().max_json_bytes
    body = request.read(limit + 1)
    if len(body) > limit:
        return _refused(413, "body_too_large", f"Cannot read the request: it is larger than {limit:,} bytes.")
    return await _exchange(request, body, caller)


_TOLD = ("WWW-Authenticate", "Retry-After")
_INVALID_REQUEST = -32600


def _is_own(request: HttpRequest) -> bool:
    """Whether it comes from no web page, or from one of this site or a trusted one."""
    origin = request.headers.get("Origin")
    own = f"{request.scheme}://{request.get_host()}"
    return origin is None or origin == own or origin in settings.CSRF_TRUSTED_ORIGINS


def _refused(status: int, code: str, message: str, **more: Any) -> HttpResponse:
    """An error in the form whose sentence clients pass on; ``data`` is what REST answers."""
    data = {"code": code, "message": message, **more}
    error = {"code": _INVALID_REQUEST, "message": f"{message} ({code})", "data": data}
    return JsonResponse({"jsonrpc": "2.0", "id": None, "error": error}, status=status)


def _sdk() -> Callable[[callers.Caller], StreamableHTTPSessionManager]:
    """What makes a manager. The SDK takes a second to import: no worker or command should wait for it, nor the loop."""
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from backend.mcp.server import make_server

    return lambda caller: StreamableHTTPSessionManager(
        make_server(lambda: caller),
        json_response=True,
        stateless=True,
        max_request_body_size=conf.settings().max_json_bytes,
    )


async def _exchange(request: HttpRequest, body: bytes, caller: callers.Caller) -> HttpResponse:
    make_manager = await sync_to_async(_sdk)()
    given, sent = [body], [HttpResponse(status=500)]

    async def receive() -> Message:
        if given:
            return {"type": "http.request", "body": given.pop(), "more_body": False}
        await anyio.sleep_forever()  # if the client leaves, Django cancels all of this
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            sent[0] = HttpResponse(status=message["status"])
            del sent[0]["Content-Type"]
            for name, value in message.get("headers", ()):
                sent[0][name.decode("latin-1")] = value.decode("latin-1")
        elif message["type"] == "http.response.body":
            sent[0].write(message.get("body", b""))

    manager = make_manager(caller)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": request.scheme,
        "path": request.path,
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in request.headers.items()],
    }
    async with manager.run():
        await manager.handle_request(scope, receive, send)
    return sent[0]
