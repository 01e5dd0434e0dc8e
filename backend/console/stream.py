"""The URL of the stream: parses the topics that the pages of a browser ask for, and checks the reader's rights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseBase
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe

from backend.console import access, card, runs
from backend.console.live import sse
from pause_manager import scopes

MOST_TOPICS = 20
"""Visible pages of one browser."""


class InvalidTopic(ValueError):
    """The requested topic does not exist."""


@dataclass(frozen=True)
class Rights:
    """The rights of a reader over the pages of one stream."""

    user_id: int
    card: card.Rights
    runs: frozenset[UUID]
    """The requested runs that the reader may see."""


@require_safe
async def stream(request: HttpRequest) -> HttpResponseBase:
    """Stream updates to the pages of this session. Refuses instead of redirecting: a stream shows no sign-in page."""
    user = await request.auser()
    key = request.session.session_key
    is_of_another = "session" in request.GET and request.GET["session"] != access.session_of(request)
    if not user.is_authenticated or key is None or is_of_another:
        raise PermissionDenied
    if not await user.ahas_perm(access.VIEW):
        raise PermissionDenied
    try:
        asked = [_parsed(name) for name in dict.fromkeys(request.GET.getlist("topic") or ["runs"])]
    except InvalidTopic as error:
        return HttpResponseBadRequest(str(error))
    if len(asked) > MOST_TOPICS:
        return HttpResponseBadRequest(f"Cannot open a stream: expected up to {MOST_TOPICS} topics, got {len(asked)}.")
    wanted = frozenset(run_id for _, run_id, _ in asked if run_id is not None)
    rights = await sync_to_async(_rights)(key, wanted)
    if rights is None:
        raise PermissionDenied
    topics = [_topic(name, run_id, query, rights) for name, run_id, query in asked]
    return sse.response(topics, lambda: _rights(key, wanted) == rights)


def _parsed(name: str) -> tuple[str, UUID | None, dict[str, str]]:
    """Parse ``runs?status=…&before=…`` or ``run/<id>`` into (name, id of the run, query)."""
    kind, _, query = name.partition("?")
    if kind == "runs":
        return name, None, dict(parse_qsl(query))
    subject, _, run_id = kind.partition("/")
    try:
        if subject == "run":
            return name, UUID(run_id), {}
    except ValueError:
        pass
    raise InvalidTopic(f"Cannot open a stream: expected the topics runs and run/<id>, got: {name[:80]}")


def _topic(name: str, run_id: UUID | None, query: dict[str, str], rights: Rights) -> sse.Topic:
    if run_id is None:
        key = ("runs", rights.user_id, *sorted(query.items()))
        return sse.Topic(name, key, None, partial(runs.update, rights.user_id, query))
    if run_id not in rights.runs:
        return sse.Topic(name, ("gone", run_id), scopes.run(run_id), lambda: None)
    key = ("card", run_id, rights.card)
    return sse.Topic(name, key, scopes.run(run_id), partial(card.update, run_id, rights.card))


def _rights(session_key: str, run_ids: frozenset[UUID]) -> Rights | None:
    """Return the current rights of a session; ``None`` if it has ended or its user may not view runs."""
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user: Any = get_user_model()._default_manager.filter(pk=session.get(SESSION_KEY), is_active=True).first()
    if user is None or not constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()):
        return None
    if not user.has_perm(access.VIEW):
        return None
    return Rights(user.pk, card.Rights.of(user), access.visible_ids(user, run_ids))
