"""Names of what holds cover and events are about: ``fleet``, or a kind and a name such as ``run:<id>``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import UUID

RUNS = "run:"
"""What the scopes of runs begin with, for queries."""

_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

RESOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RESOURCE_NAMES = "lower-case letters, digits, '.', '_' and '-', 64 at most, a letter or digit first"
"""What :data:`RESOURCE_NAME` takes, for people."""


def resource(name: str) -> str:
    """The scope of a resource."""
    return f"resource:{name}"


def wrong_uses(declared: object) -> str | None:
    """What is wrong with the resources that a stage or task declares to use; ``None`` if nothing is."""
    if not isinstance(declared, tuple | list):
        return f"expected a tuple of names of resources, got: {declared!r}"
    for name in declared:
        if not isinstance(name, str) or not RESOURCE_NAME.fullmatch(name):
            return f"expected names of resources ({RESOURCE_NAMES}), got: {name!r}"
    if len(set(declared)) < len(declared):
        return f"expected each resource once, got: {declared!r}"
    return None


def run(run_id: UUID | str) -> str:
    """The scope of a run."""
    return f"{RUNS}{run_id}"


def parse(scope: str) -> tuple[str, str]:
    """(kind, name): ``("run", id)`` for ``run:id``; the name is empty for ``fleet``."""
    kind, _, name = scope.partition(":")
    return kind, name


def is_run(scope: str) -> bool:
    """Whether ``scope`` is that of a run."""
    return scope.startswith(RUNS)


def runs_in(scopes: Iterable[str]) -> list[str]:
    """The ids of the runs among ``scopes``; a name that is not an id is skipped."""
    parsed = (parse(scope) for scope in scopes)
    return [name for kind, name in parsed if kind == "run" and _RUN_ID.fullmatch(name)]
