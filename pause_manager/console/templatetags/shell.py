"""The shell round every page of the console: navigation, fleet badge, banner, icons."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django import template
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

import pause_manager
from pause_manager import conf
from pause_manager.console import access, pages, shell
from pause_manager.console.pages import MARK_OF_COUNT
from pause_manager.console.viewer import Viewer
from pause_manager.holds.fleet_state import FleetState

register = template.Library()


@register.simple_tag
def icon(name: str) -> str:
    """An icon of ``console/icons.svg``; it takes the colour of the text and says nothing to screen readers."""
    place = static("console/icons.svg")
    shape = '<svg class="icon" aria-hidden="true" width="20" height="20"><use href="{}#{}"/></svg>'
    return format_html(shape, place, name)


@register.simple_tag
def runtime_config(request: HttpRequest) -> str:
    """The endpoints and intervals that the pages' scripts use, as attributes of ``body``."""
    return format_html(
        ' data-live-url="{}?session={}" data-worker="{}" data-poll="{}" data-find="{}"',
        reverse("console:live"),
        access.session_of(request),
        static("console/stream.js"),
        max(1.0, conf.settings().console_poll_seconds),
        reverse("console:find"),
    )


@register.simple_tag
def navigation(request: HttpRequest) -> dict[str, Any]:
    """The groups of pages that the user may open, and the links of the account's menu."""
    viewer = Viewer.of(request.user, is_now=True)
    current = request.resolver_match.url_name if request.resolver_match else ""
    entries = [_entry(page, viewer, current or "") for page in pages.visible_to(request.user)]
    groups = [list(group) for _, group in groupby(entries, key=lambda entry: entry["order"] // 100)]
    return {
        "home": entries[0]["url"] if entries else "/",
        "groups": groups,
        "links": shell.links_for(request.user),
        "sign_out": _url("console:sign-out"),
        "version": pause_manager.__version__,
    }


def _entry(page: pages.Page, viewer: Viewer, current: str) -> dict[str, Any]:
    number = page.count(viewer) if page.count else 0
    return {
        "title": page.title,
        "url": reverse(f"console:{page.name}"),
        "icon": page.icon,
        "key": page.key,
        "order": page.order,
        "is_current": current == page.name or shell.parent_of(current) == page.name,
        "count": f"{MARK_OF_COUNT}+" if number > MARK_OF_COUNT else number,
    }


def _url(name: str) -> str:
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""


@register.simple_tag
def fleet_state() -> FleetState:
    """The state of the fleet, read once for badge and banner."""
    return shell.read_state()


@register.simple_tag
def fleet_badge(state: FleetState) -> str:
    """The fleet badge, and the topic that keeps it up to date."""
    badge = render_to_string("console/_shell_state.html", shell.badge(state))
    return badge + _live("fleet-badge", "#shell-state")


@register.simple_tag
def fleet_banner(state: FleetState, request: HttpRequest) -> str:
    """What is held fleet-wide, and the topic that keeps it up to date."""
    lines = shell.banner(state, Viewer.of(request.user, is_shared=True))
    return render_to_string("console/_shell_banner.html", {"lines": lines}) + _live("fleet-banner", "#shell-banner")


def _live(topic: str, target: str) -> str:
    return format_html('<div data-live data-topic="{}" data-target="{}" hidden></div>', topic, target)


@register.inclusion_tag("console/_dialogs.html", takes_context=True)
def dialogs(context: dict[str, Any]) -> dict[str, Any]:
    """The dialogs that every page shares."""
    found = pages.visible_to(context["user"])
    return {"shortcuts": [(page.title, page.key) for page in found if page.key]}
