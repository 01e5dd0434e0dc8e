"""What a page can follow: each kind of topic resolves a name, as a page's script sends it, for one user."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.template.loader import render_to_string

from pause_manager.console import pages
from pause_manager.console.live.listener import CHANGES
from pause_manager.console.live.sse import Topic, Update
from pause_manager.console.pages import Page
from pause_manager.console.viewer import Viewer


class InvalidTopic(ValueError):
    """The requested topic does not exist."""


Resolve = Callable[[Any, str, dict[str, str], str], Topic]
"""From (user, subject, query, name) to the topic. Its key must hold every right that its render depends on. Raises
``PermissionDenied`` for a user who may not follow it, and ``InvalidTopic``."""

_kinds: dict[str, Resolve] = {}


def register(kind: str, resolve: Resolve) -> None:
    """Add topics ``<kind>`` and ``<kind>/<subject>``, each with an optional query."""
    _kinds[kind] = resolve


def resolve(name: str, user: Any) -> Topic:
    """Return the topic that ``user`` asks for, such as ``fleet`` or ``run/<id>``."""
    path, _, query = name.partition("?")
    kind, _, subject = path.partition("/")
    wanted = dict(parse_qsl(query, keep_blank_values=True))
    if kind in _kinds:
        return _kinds[kind](user, subject, wanted, name)
    page = pages.get(kind)
    if page is None or subject:
        known = ", ".join([*(f"{one}/<id>" for one in _kinds), *(one.name for one in pages.every())])
        raise InvalidTopic(f"Cannot open a stream: expected one of the topics {known}; got: {name[:80]}")
    return _of_page(page, user, wanted, name)


def _of_page(page: Page, user: Any, query: dict[str, str], name: str) -> Topic:
    if not page.may_view(user):
        raise PermissionDenied
    viewer = page.viewer(user)
    key = (page.name, viewer, *sorted(query.items()))
    scope = None if page.follows_progress else CHANGES
    return Topic(name, key, scope, partial(_rendered, page, viewer, query), page.refresh_seconds)


def _rendered(page: Page, viewer: Viewer, query: dict[str, str]) -> Update | None:
    try:
        found = page.context(viewer, query)
    except ObjectDoesNotExist:
        return None  # the account was deleted
    html = render_to_string(page.template, found | {"page": page, "viewer": viewer})
    return Update(f'<div id="content">{html}</div>')
