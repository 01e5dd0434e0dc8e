"""Authentication by agents' tokens, which are valid at the endpoints for agents only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from automation import agents
from automation.models import Agent


class AgentForbidden(PermissionDenied):
    """An agent's token was used at an endpoint that is not for agents."""

    default_code = "agent_forbidden"
    default_detail = "Cannot do that: an agent's token is valid for /api/queue/jobs/ only."


class AgentDisabled(PermissionDenied):
    """The agent of this token is disabled."""

    default_code = "agent_disabled"
    default_detail = "Cannot do that: the agent is disabled."


@dataclass(frozen=True)
class AgentCaller:
    """An agent in place of a user, without any of a user's permissions."""

    agent: Agent
    is_authenticated = True
    is_active = True
    is_anonymous = False
    is_superuser = False
    is_staff = False

    @property
    def pk(self) -> str:
        """Distinct from ids of users, since throttles count by it."""
        return f"agent-{self.agent.pk}"

    def get_username(self) -> str:
        return self.agent.name

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return False


class AgentAuthentication(BaseAuthentication):
    """``Authorization: Agent <token>``, or ``Bearer``. ``request.auth`` is the agent."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        token = _token(request)
        if token is None:
            return None
        agent = agents.find_by_token(token)
        if agent is None:
            raise AuthenticationFailed("Invalid token: it belongs to no agent.")
        if not agent.is_enabled:
            raise AgentDisabled
        agents.note_seen(agent)
        return AgentCaller(agent), agent

    def authenticate_header(self, request: Request) -> str:
        return "Agent"


class NoAgents(BaseAuthentication):
    """Refuses agents' tokens; the first of the default classes, so that no endpoint is forgotten."""

    def authenticate(self, request: Request) -> None:
        token = _token(request)
        if token is not None and agents.find_by_token(token) is not None:
            raise AgentForbidden

    def authenticate_header(self, request: Request) -> str:
        # The header of the first class is sent for all: callers other than agents see no difference.
        return "Token"


def _token(request: Request) -> str | None:
    """The agent's token of the request, if there is one, under any keyword."""
    keyword, _, token = get_authorization_header(request).partition(b" ")
    text = token.strip().decode("latin-1")
    if text.startswith(agents.TOKEN_PREFIX) or keyword.lower() == b"agent":
        return text
    return None
