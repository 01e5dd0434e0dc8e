"""Where a page of the console shows a thing: apps with work register what their scopes and refs lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """The title and the URL of a thing."""

    title: str
    url: str = ""


_finders: list[Callable[[str], Link | None]] = []


def register(finder: Callable[[str], Link | None]) -> None:
    """Add a function from a scope or ref, such as ``run:<id>``, to its link; ``None`` if it is not the app's."""
    if finder not in _finders:
        _finders.append(finder)


def of(subject: str) -> Link:
    """Return the link of a scope or ref; one that nobody knows is its own title."""
    for finder in _finders:
        if (found := finder(subject)) is not None:
            return found
    return Link(subject)
