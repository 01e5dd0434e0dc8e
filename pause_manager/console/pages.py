"""The registry of the console's pages: navigation, URLs and live topics are made from it.

An app with pages of its own registers them in ``AppConfig.ready``; the pause manager's own are in ``apps.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pause_manager.actor import Actor
from pause_manager.console.viewer import Viewer

Query = Mapping[str, str]
Context = dict[str, Any]
MARK_OF_COUNT = 99
"""The navigation shows larger counts as "99+"."""


class Refused(Exception):
    """An action was refused; ``str(error)`` is the sentence for the person. Nothing was changed."""


@dataclass(frozen=True)
class Request:
    """One action that a person asked for on a page: who, and the fields of the form."""

    user: Any
    actor: Actor
    values: Mapping[str, str]
    """One value per field; of several, the last."""
    lists: Callable[[str], list[str]]
    """All values of a field."""

    @property
    def reason(self) -> str:
        return self.values.get("reason", "").strip()[:LONGEST_REASON]

    def required(self, name: str, label: str) -> str:
        """Return a field that must be filled in. Raises ``Refused`` if it is empty."""
        found = self.values.get(name, "").strip()
        if not found:
            raise Refused(f"Cannot do that: {label} is missing.")
        return found


LONGEST_REASON = 500


@dataclass(frozen=True)
class Done:
    """The result of an action: a sentence, and where the browser is to go, if elsewhere."""

    sentence: str
    location: str = ""
    problems: tuple[str, ...] = ()
    """What was refused of an action on several things, one sentence each."""


@dataclass(frozen=True)
class Action:
    """What a form of a page does. ``run`` returns what was done as a sentence, or raises an error with a sentence.

    ``permission`` names one permission; a callable decides itself.
    """

    run: Callable[[Request], str | Done]
    permission: str | Callable[[Any], bool]

    def is_allowed(self, user: Any) -> bool:
        return self.permission(user) if callable(self.permission) else bool(user.has_perm(self.permission))


@dataclass(frozen=True)
class Page:
    """One page: its content is rendered alike for the first response and for the live stream.

    ``template`` renders the content from ``context(viewer, query)``, where ``query`` is the query string of the URL.
    Without ``refresh_seconds`` the content follows the notifications of changes alone; with it, it is rendered at
    least that often while somebody looks, for figures that change by themselves. A page ``is_shared`` if it reads
    nothing of the viewer but permissions: then all with the same permissions share each render.
    """

    name: str
    """The name of its URL in ``console:``, and of its topic."""
    path: str
    title: str
    template: str
    context: Callable[[Viewer, Query], Context]
    may_view: Callable[[Any], bool]
    icon: str = ""
    """The symbol in ``console/icons.svg``; without it, the page is not in the navigation."""
    order: int = 0
    """Its place in the navigation; hundreds make groups."""
    key: str = ""
    """After ``g``, the key that opens it."""
    refresh_seconds: float | None = None
    follows_progress: bool = False
    """The content shows progress of work: it is rendered for each of its notifications too."""
    is_shared: bool = False
    viewer_of: Callable[..., Viewer] | None = None
    """Instead of ``is_shared``: the viewer that a user is on this page, with all that the content depends on. Users
    with equal viewers share each render."""
    styles: tuple[str, ...] = ()
    """Style sheets that only this page needs, below ``console/`` of the static files."""
    scripts: tuple[str, ...] = ()
    actions: Mapping[str, Action] = field(default_factory=dict)
    is_offered: Callable[[], bool] | None = None
    """Whether there is anything to show at all; else the page is not in the navigation."""
    count: Callable[[Viewer], int] | None = None
    """A cheap count of what needs a person, beside the title in the navigation."""

    def viewer(self, user: Any, *, is_now: bool = False) -> Viewer:
        """The viewer that ``user`` is on this page."""
        if self.viewer_of is not None:
            return self.viewer_of(user)
        return Viewer.of(user, is_shared=self.is_shared, is_now=is_now)


_pages: dict[str, Page] = {}


def register(*pages: Page) -> None:
    """Add pages; one with a known name replaces it."""
    for page in pages:
        _pages[page.name] = page


def get(name: str) -> Page | None:
    """Return a page by its name."""
    return _pages.get(name)


def every() -> list[Page]:
    """Return all pages in the order of the navigation."""
    return sorted(_pages.values(), key=lambda page: page.order)


def visible_to(user: Any) -> list[Page]:
    """Return the pages of the navigation that ``user`` may open."""
    offered = (page for page in every() if page.icon and page.may_view(user))
    return [page for page in offered if page.is_offered is None or page.is_offered()]
