"""Where this worker keeps files, if an app of its project has some: told with its reports, so that others can compare.

``id`` is the mark of the storage, ``place`` the same text for all who share it, ``name`` for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_told: Mapping[str, Any] | None = None


def tell(files: Mapping[str, Any] | None) -> None:
    """From now on this is told; ``None``: nothing."""
    global _told
    _told = files


def told() -> Mapping[str, Any] | None:
    """What is told now."""
    return _told
