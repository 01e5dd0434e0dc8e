"""Passes one HTTP request to the MCP SDK, and returns its response."""

from __future__ import annotations

import anyio
from django.http import HttpRequest, HttpResponse
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Message

from automation import conf
from backend.mcp.authentication import Caller
from backend.mcp.server import make_server


async def exchange(request: HttpRequest, body: bytes, caller: Caller) -> HttpResponse:
    """Handle one message of ``caller``."""
    manager = StreamableHTTPSessionManager(
        make_server(lambda: caller),
        json_response=True,
        stateless=True,
        max_request_body_size=conf.settings().max_json_bytes,
    )
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
