"""What ``Ctrl K`` finds: pages, and whatever apps register finders for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice

from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from pause_manager.console import access, pages

MOST_HITS = 8
"""Of each finder."""
LONGEST_QUERY = 100


@dataclass(frozen=True)
class Ask:
    """An action, as the attributes of a button that opens the dialog: see ``actions.js``."""

    url: str
    title: str
    button: str
    values: dict[str, str]
    text: str = ""
    reason: str = ""
    """``required``, ``optional`` or empty for none."""
    is_danger: bool = False

    def attributes(self) -> dict[str, str]:
        """The ``data-`` attributes of a button."""
        return {
            "ask": self.url,
            "title": self.title,
            "text": self.text,
            "button": self.button,
            "values": json.dumps(self.values),
            "reason": self.reason,
            "danger": "1" if self.is_danger else "",
        }


@dataclass(frozen=True)
class Hit:
    """One line of the palette: it opens ``url``, or asks for an action."""

    title: str
    kind: str
    url: str = ""
    hint: str = ""
    ask: dict[str, str] = field(default_factory=dict)


Finder = Callable[[HttpRequest, str], Iterable[Hit]]
_finders: list[Finder] = []


def register(*finders: Finder) -> None:
    """Add functions from the request and the trimmed, lower-case text to hits, best first."""
    _finders.extend(finder for finder in finders if finder not in _finders)


@require_safe
@access.restricted(access.is_signed_in)
def find(request: HttpRequest) -> JsonResponse:
    """Respond with what the text ``q`` finds, as JSON."""
    text = request.GET.get("q", "").replace("\0", "").strip().lower()[:LONGEST_QUERY]
    hits = [asdict(hit) for finder in _finders for hit in islice(finder(request, text), MOST_HITS)]
    return JsonResponse({"hits": hits})


def pages_found(request: HttpRequest, text: str) -> list[Hit]:
    """The pages of the navigation."""
    return [
        Hit(page.title, "page", reverse(f"console:{page.name}"), f"g {page.key}" if page.key else "")
        for page in pages.visible_to(request.user)
        if text in page.title.lower()
    ]
