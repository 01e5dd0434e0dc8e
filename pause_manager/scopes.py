"""Names of what holds cover and events are about: ``fleet``, or a kind and a name such as ``run:<id>``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import UUID

RUNS = "run:"
"""What the scopes of runs begin with, for queries."""

_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
