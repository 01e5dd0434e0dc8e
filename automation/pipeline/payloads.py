"""Payloads as they are stored: JSON objects. Needs neither models nor a database."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any

import orjson

from automation import conf
from pause_manager.finite import non_finite

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class UnfitPayload(ValueError):
    """The payload cannot be stored as a JSON object; the sentence says why."""


def encode(payload: Any, most_bytes: int | None = None) -> bytes:
    """``payload``, a dict, dataclass or pydantic model, as a JSON object ready to store, or ``UnfitPayload``.

    ``most_bytes`` is what it may take; ``None``: as much as the settings say.
    """
    if not isinstance(payload, dict):
        payload = _as_object(payload)
    try:
        encoded = orjson.dumps(payload, None, _NUMPY)
    except TypeError as error:
        raise UnfitPayload(f"expected an output made of JSON values: {error}") from None
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise UnfitPayload("expected an output without NUL characters")
    # What is not a number has become null.
    if b"null" in encoded and (found := non_finite(payload)):
        raise UnfitPayload(f"expected an output of finite numbers: {found}")
    if len(encoded) > LEAST_LIMIT:
        _check_size(encoded, most_bytes)
    return encoded


def _as_object(payload: Any) -> dict[str, Any]:
    if is_dataclass(payload) and not isinstance(payload, type):
        return {field.name: getattr(payload, field.name) for field in fields(payload)}
    if callable(dump := getattr(payload, "model_dump", None)) and not isinstance(payload, type):
        dumped: dict[str, Any] = dump(mode="json")
        return dumped
    raise UnfitPayload(
        f"expected an output that is a JSON object (dict, dataclass or pydantic model), got: {type(payload).__name__}"
    )


LEAST_LIMIT = 1024
"""No limit is lower: what is smaller than that is not asked about."""


def _check_size(encoded: bytes, most_bytes: int | None) -> None:
    most = conf.settings().max_item_bytes if most_bytes is None else most_bytes
    if len(encoded) > most:
        raise UnfitPayload(
            f"expected an output of at most {most:,} bytes, got: {len(encoded):,}; "
            f"keep it in ctx.artifacts, and its name in the output"
        )


def of_wrong_type(outputs: Any) -> str:
    """Why ``outputs`` cannot be what ``process()`` has returned."""
    if outputs is None:
        return (
            "expected the outputs of process(), got None: yield each output, or return a list (an empty one for none)"
        )
    if isinstance(outputs, dict):
        return "expected the outputs of process(), got one dict: yield it, or return [it]"
    return f"expected the outputs of process(), dicts in a list or yielded, got: {type(outputs).__name__}"
