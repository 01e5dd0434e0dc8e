"""The URL of the stream: parses the topics that the pages of a browser ask for, and checks the reader's rights."""

from __future__ import annotations

from collections.abc import Hashable
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseBase
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe

from pause_manager.console import access
from pause_manager.console.live import sse, topics
from pause_manager.console.live.sse import Topic

MOST_TOPICS = 40
"""Topics of the visible pages of one browser."""


@require_safe
async def stream(request: HttpRequest) -> HttpResponseBase:
    """Stream updates to the pages of this session. Refuses instead of redirecting: a stream shows no sign-in page.

    With ``once``, and under WSGI, which cannot stream, it responds with the present content and ends.
    """
    user = await request.auser()
    key = request.session.session_key
    is_of_another = "session" in request.GET and request.GET["session"] != access.session_of(request)
    if not user.is_authenticated or key is None or is_of_another:
        raise PermissionDenied
    names = list(dict.fromkeys(request.GET.getlist("topic")))
    if not 0 < len(names) <= MOST_TOPICS:
        return HttpResponseBadRequest(f"Cannot open a stream: expected 1 to {MOST_TOPICS} topics, got {len(names)}.")
    try:
        asked = await sync_to_async(_resolved)(key, names)
    except topics.InvalidTopic as error:
        return HttpResponseBadRequest(str(error))
    if asked is None:
        raise PermissionDenied
    if "once" in request.GET or not isinstance(request, ASGIRequest):
        return await sse.once(asked)
    rights = _rights(asked)
    return sse.response(asked, lambda: _rights(_resolved(key, names)) == rights)


def _resolved(session_key: str, names: list[str]) -> list[Topic] | None:
    """Return the topics with the present rights of a session; ``None`` if it has ended or may not follow them."""
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user: Any = get_user_model()._default_manager.filter(pk=session.get(SESSION_KEY), is_active=True).first()
    if user is None or not constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()):
        return None
    try:
        return [topics.resolve(name, user) for name in names]
    except PermissionDenied:
        return None


def _rights(found: list[Topic] | None) -> list[Hashable] | None:
    return None if found is None else [topic.key for topic in found]
