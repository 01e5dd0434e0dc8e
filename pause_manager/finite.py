"""Numbers that are none: NaN and the infinities. JSON has no word for them, and ``null`` would be another value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite
from typing import Any


def non_finite(value: Any, path: str = "") -> str | None:
    """Return where the first number in ``value`` is that is not finite, and what it is: ``scores[3].loss is nan``.

    ``None`` if all are finite. Looks into all that orjson does: mappings, lists, tuples, dataclasses, enumerations and
    arrays of NumPy.
    """
    if isinstance(value, float):
        return None if isfinite(value) else f"{path or 'it'} is {value}"
    if isinstance(value, Enum):
        return non_finite(value.value, path)
    for where, inner in _parts(value, path):
        found = non_finite(inner, where)
        if found is not None:
            return found
    return None


def _parts(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((f"{path}.{key}" if path else str(key), inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ((f"{path}[{index}]", inner) for index, inner in enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return ((f"{path}.{one.name}" if path else one.name, getattr(value, one.name)) for one in fields(value))
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return ((path, value.tolist()),)
    return ()
