"""Text and values of messages as PostgreSQL takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any


def short(text: str, longest: int) -> str:
    """``text``, or if it is longer its beginning and a digest of all of it."""
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: longest - len(digest) - 1]}#{digest}"


def clean(text: str) -> str:
    """``text`` as PostgreSQL takes it: without NUL and without halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def readable(value: Any) -> Any:
    """``value`` as JSON in PostgreSQL takes it: what it cannot say is said in other words."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(name)): readable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [readable(inner) for inner in value]
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    return clean(str(value))
