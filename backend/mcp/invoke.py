"""Invokes a tool: builds the request for its REST view, and returns the view's response."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from automation import agents
from backend.mcp import schemas
from backend.mcp.authentication import Caller, CallerAuthentication, Identify, NotAdmitted
from backend.mcp.tools import Tool
from pause_manager.api.http import errors, strict
from pause_manager.api.http.idempotency import HEADER
from pause_manager.observability import log_context, request_id

CHANNEL = "mcp"
Arguments = dict[str, Any]
Result = tuple[bool, dict[str, Any]]
"""True if the call was refused, and the body of the REST response."""


def invoke(tool: Tool, identify: Identify, arguments: Arguments) -> Result:
    """Invoke ``tool``. Never raises for a mistake of the caller."""
    try:
        caller = identify()
        own = caller.request_id or uuid.uuid4().hex
        with log_context.bound(request_id=own):
            return _invoke(tool, replace(caller, request_id=own), arguments)
    except NotAdmitted as refusal:
        return True, _plain(refusal.response)
    finally:
        close_old_connections()  # over stdio there is no end of a request to do it


def _invoke(tool: Tool, caller: Caller, arguments: Arguments) -> Result:
    try:
        _check(tool, arguments)
    except ValidationError as error:
        response = errors.handle(error, {})
        assert response is not None
        return True, _plain(response) | ({"system": agents.system_block(caller.auth)} if caller.is_agent else {})
    view = tool.view.as_view(
        channel=CHANNEL,
        authentication_classes=[partial(CallerAuthentication, caller, tool.for_agents)],
        throttle_classes=[],  # TokenView has counted the request
    )
    operation = schemas.operation_of(tool.operation)
    in_path = {name: value for name, value in arguments.items() if operation.places[name] == "path"}
    response = view(_request(tool, caller, arguments), **in_path)
    assert isinstance(response, Response)
    body = _plain(response)
    if "cursor" in operation.places and isinstance(body.get("next"), str):
        body["next"] = parse_qs(urlsplit(body["next"]).query)["cursor"][0]
    return response.status_code >= 400, body


def _check(tool: Tool, arguments: Arguments) -> None:
    """Check what no view checks: names, path and header arguments, and the reason."""
    takes = schemas.takes(tool)
    known = takes["properties"]
    if unknown := {name: [strict.sentence(name, list(known))] for name in arguments if name not in known}:
        raise ValidationError(unknown)
    for name in takes["required"]:
        if name not in arguments:
            raise ValidationError({name: ["This field is required."]})
    for name, place in schemas.operation_of(tool.operation).places.items():
        if place in ("path", "header") and name in arguments:
            kind = int if known[name]["type"] == "integer" else str
            value = arguments[name]
            if not isinstance(value, kind) or isinstance(value, bool):
                expected = "a whole number" if kind is int else "a text"
                raise ValidationError({name: [f"expected {expected}, got: {value!r:.40}"]})
    if tool.needs_reason and not str(arguments["reason"] or "").strip():
        raise ValidationError({"reason": ["expected a reason, got none."]})


def _request(tool: Tool, caller: Caller, arguments: Arguments) -> ASGIRequest:
    operation = schemas.operation_of(tool.operation)
    path, body = operation.path, dict(tool.fixed)
    query: Arguments = {}
    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    headers.append((request_id.HEADER.lower().encode(), caller.request_id.encode()))
    for name, value in arguments.items():
        match operation.places[name]:
            case "path":
                path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
            case "query":
                query |= {} if value is None else {name: value}
            case "header":
                headers.append((HEADER.lower().encode(), value.encode("utf-8")))
            case _:
                body[name] = value
    content = json.dumps(body).encode() if operation.method != "GET" else b""
    headers.append((b"content-length", str(len(content)).encode()))
    scope = {
        "type": "http",
        "method": operation.method,
        "path": path,
        "query_string": urlencode(query).encode(),
        "headers": headers,
    }
    return ASGIRequest(scope, io.BytesIO(content))


def _plain(response: Response) -> dict[str, Any]:
    """Return the body as HTTP would carry it."""
    found: dict[str, Any] = json.loads(JSONRenderer().render(response.data))
    return found
