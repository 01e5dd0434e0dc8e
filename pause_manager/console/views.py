"""The view of every registered page, and of its actions."""

from __future__ import annotations

import logging
from typing import Any

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import URLPattern, path
from django.views.decorators.http import require_http_methods

from pause_manager.actor import Actor
from pause_manager.console import access, pages
from pause_manager.console.pages import Action, Done, Page, Refused, Request
from pause_manager.errors import PauseManagerError
from pause_manager.observability import request_id

logger = logging.getLogger("pause_manager.console")

REFUSALS: list[type[Exception]] = [Refused, PauseManagerError]
"""Errors whose sentence is shown to the person who asked; apps with actions add their own base class."""


def urls() -> list[URLPattern]:
    """Return the URLs of all registered pages."""
    return [path(page.path, _view_of(page), name=page.name) for page in pages.every()]


def _view_of(page: Page) -> Any:
    @require_http_methods(["GET", "HEAD", "POST"])
    @access.restricted(page.may_view)
    def view(request: HttpRequest) -> HttpResponseBase:
        return _act(request, page) if request.method == "POST" else show(request, page)

    return view


def show(request: HttpRequest, page: Page) -> HttpResponse:
    """Render the whole page: shell and content."""
    viewer = page.viewer(request.user, is_now=True)
    query = request.GET.dict()
    found = page.context(viewer, query) | {"page": page, "viewer": viewer, "topic": topic_name(request, page)}
    return render(request, "console/page.html", found)


def topic_name(request: HttpRequest, page: Page) -> str:
    """Return the name of the page's topic, with the query that its content depends on."""
    query = request.GET.urlencode()
    return f"{page.name}?{query}" if query else page.name


def _act(request: HttpRequest, page: Page) -> HttpResponse:
    action = page.actions.get(request.POST.get("do", ""))
    if action is None:
        known = ", ".join(page.actions) or "none"
        return HttpResponseBadRequest(f"Cannot do that: expected as do one of {known}.")
    return perform(request, action)


def perform(request: HttpRequest, action: Action) -> HttpResponse:
    """Carry out one action; responds as JSON with what was done, or with 403 or 409 and the sentence of the refusal."""
    if not action.is_allowed(request.user):
        return JsonResponse({"refused": f"Cannot do that: {access.missing(action.permission)}."}, status=403)
    actor = Actor.user(request.user, channel="console", request_id=request_id.of(request))
    try:
        result = action.run(Request(request.user, actor, request.POST.dict(), request.POST.getlist))
    except tuple(REFUSALS) as refusal:
        return JsonResponse({"refused": str(refusal)}, status=409)
    except DatabaseError:
        logger.exception("An action of the console failed.")
        return JsonResponse({"refused": "Cannot do that now: the database is unavailable."}, status=503)
    done = Done(result) if isinstance(result, str) else result
    return JsonResponse({"done": done.sentence, "location": done.location, "problems": list(done.problems)})
