"""Finds the caller of a tool by the same tokens as REST."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import Error as DatabaseError
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication, TokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from automation.api.agents.authentication import AgentAuthentication, AgentForbidden
from automation.models import Agent
from pause_manager import database
from pause_manager.api.http.base import ControlView
from pause_manager.api.http.errors import answer
from pause_manager.observability import request_id


@dataclass(frozen=True)
class Caller:
    """A user, or an agent in place of one."""

    user: Any
    auth: Any = None
    request_id: str = ""
    """Recorded with the events that the call causes; if empty, each call gets an id of its own."""

    @property
    def is_agent(self) -> bool:
        return isinstance(self.auth, Agent)


class NotAdmitted(Exception):
    """The caller is unknown or may not call; ``response`` says why."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.data["message"])
        self.response = response


Identify = Callable[[], Caller]
"""Returns the caller, or raises :class:`NotAdmitted`. Called before each tool: a token may have been revoked."""


class BearerAuthentication(TokenAuthentication):
    """A user's token with the keyword that MCP clients send."""

    keyword = "Bearer"


class TokenView(ControlView):
    """Authenticates a token and applies the rate limits of REST."""

    authentication_classes = (AgentAuthentication, TokenAuthentication, BearerAuthentication)
    permission_classes = (IsAuthenticated,)

    def get_authenticate_header(self, request: Request) -> str:
        return "Bearer"

    def post(self, request: Request) -> Response:
        return Response(status=204)


def of_request(request: HttpRequest) -> Caller:
    """Return the caller whose token ``request`` carries. Raises :class:`NotAdmitted`."""
    response = TokenView.as_view()(request)
    assert isinstance(response, Response)
    if response.status_code >= 400:
        raise NotAdmitted(response)
    return Caller(request.user, request.auth, request_id.of(request))  # type: ignore[attr-defined]


def of_token(token: str) -> Caller:
    """Return the caller with this token. Raises :class:`NotAdmitted`."""
    request = HttpRequest()
    request.method = "POST"
    request.META |= {"HTTP_AUTHORIZATION": f"Bearer {token}", "REMOTE_ADDR": "127.0.0.1"}
    found = of_request(request)
    return Caller(found.user, found.auth)


def of_name(name: str) -> Caller:
    """Return the active user of this name, for a caller with a shell on this machine. Raises :class:`NotAdmitted`."""
    users = get_user_model()._default_manager
    try:
        user = users.filter(**{get_user_model().USERNAME_FIELD: name}, is_active=True).first()
    except DatabaseError as error:
        raise NotAdmitted(answer(500, "database_unavailable", database.sentence(error))) from error
    if user is None:
        sentence = f"Cannot act as {name}: there is no active user of that name."
        raise NotAdmitted(answer(401, "authentication_failed", sentence))
    return Caller(user)


class CallerAuthentication(BaseAuthentication):
    """Authenticates a view as ``caller``; agents are refused where REST refuses them."""

    def __init__(self, caller: Caller, for_agents: bool) -> None:
        self.caller, self.for_agents = caller, for_agents

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        if self.caller.is_agent and not self.for_agents:
            raise AgentForbidden("Cannot do that: an agent's token is only for the tools queue.*.")
        return self.caller.user, self.caller.auth
