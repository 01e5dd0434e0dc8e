"""The URL of the stream: parses the topics that the pages of a browser ask for, and checks the reader's rights."""

from __future__ import annotations

from functools import partial

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseBase
from django.views.decorators.http import require_safe

from pause_manager.console import access
from pause_manager.console.live import rights, sse, topics

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
        asked = await sync_to_async(rights.resolved)(key, names)
    except topics.InvalidTopic as error:
        return HttpResponseBadRequest(str(error))
    if asked is None:
        raise PermissionDenied
    if "once" in request.GET or not isinstance(request, ASGIRequest):
        return await sse.once(asked)
    reader = rights.readers.add(rights.Reader(key, tuple(names), rights.rights_of(asked)))
    return sse.response(asked, partial(rights.readers.may_still_read, reader))
