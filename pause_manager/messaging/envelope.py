"""Any value of a Celery message's headers and properties as bytes, and back: JSON, with tags for what JSON lacks.

A value that JSON has stands as itself, so that an envelope can be read by hand. Anything else is an object with one
member, whose name is a tag: ``{"$bytes": "…"}``. A dict that could be taken for one, or has other keys than text, is
``{"$dict": [[key, value], …]}``.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

_DEEPEST = 40
"""Below this depth a value is a part of its own, so that neither side recurses further than the interpreter may."""

_SMALL = 1 << 63


def dump(value: Any) -> bytes:
    """``value`` as bytes that :func:`load` makes the same of; equal bytes for values built alike.

    Total: a value of any other type, and one that contains itself, becomes its own ``str``, tagged ``$text``. What
    extends a known type becomes that type: a ``namedtuple`` a tuple, an ``IntEnum`` an int, a ``memoryview`` bytes.
    """
    writer = _Writer()
    parts = [writer.encoded(value, frozenset())]
    while writer.deferred:
        deeper, above = writer.deferred.pop(0)
        parts.append(writer.encoded(deeper, above))
    return orjson.dumps(parts[0] if len(parts) == 1 else {"$parts": parts})


def load(data: bytes) -> Any:
    """The value of which :func:`dump` made ``data``. Raises ``ValueError`` for anything else."""
    try:
        found = orjson.loads(data)
        if _tag(found) != "$parts":
            return _decoded(found, [])
        # A part refers only to those after it.
        parts: list[Any] = [None] * len(found["$parts"])
        for number in range(len(parts) - 1, -1, -1):
            parts[number] = _decoded(found["$parts"][number], parts)
        return parts[0]
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"Cannot read an envelope: {type(error).__name__}: {error}.") from error


class _Writer:
    def __init__(self) -> None:
        self.deferred: list[tuple[Any, frozenset[int]]] = []
        self._count = 0

    def encoded(self, value: Any, above: frozenset[int], depth: int = 0, *, is_key: bool = False) -> Any:
        """``value`` for JSON. ``above``: the containers it is in. ``is_key``: it must be hashable when it is read."""
        try:
            return self._encoded(value, above, depth, is_key)
        except Exception:
            return _text(value)

    def _encoded(self, value: Any, above: frozenset[int], depth: int, is_key: bool) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _string(str.__str__(value))
        if isinstance(value, int):
            number = int.__index__(value)
            return number if -_SMALL <= number < _SMALL else {"$int": hex(number)}
        if isinstance(value, float):
            return float.__float__(value) if math.isfinite(value) else {"$float": repr(float.__float__(value))}
        if (tagged := _scalar(value, is_key)) is not None:
            return tagged
        if id(value) in above:
            return _text("…")
        if depth >= _DEEPEST and isinstance(value, list | tuple | set | frozenset | Mapping):
            if is_key:
                return _text(value)
            self.deferred.append((value, above))
            self._count += 1
            return {"$part": self._count}
        inside = above | {id(value)}

        def each(one: Any, *, must_hash: bool = is_key) -> Any:
            return self.encoded(one, inside, depth + 1, is_key=must_hash)

        if isinstance(value, tuple):
            return {"$tuple": [each(one) for one in tuple.__iter__(value)]}
        if isinstance(value, frozenset):
            return {"$frozenset": _sorted(each(one, must_hash=True) for one in value)}
        if is_key:
            return _text(value)
        if isinstance(value, list):
            return [each(one) for one in list.__iter__(value)]
        if isinstance(value, set):
            return {"$set": _sorted(each(one, must_hash=True) for one in value)}
        if isinstance(value, Mapping):
            return _object([(each(key, must_hash=True), each(one)) for key, one in value.items()])
        return _text(value)


def _string(text: str) -> Any:
    if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    return {"$surrogates": base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()}


def _scalar(value: Any, is_key: bool) -> Any:
    """The tagged form of what contains nothing; ``None`` for anything else."""
    if isinstance(value, bytes) or (isinstance(value, bytearray | memoryview) and not is_key):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, memoryview):
        return {"$bytes": base64.b64encode(value.tobytes()).decode()}
    if isinstance(value, datetime):
        return {"$datetime": [datetime.isoformat(value), value.fold, _zone(value.tzinfo)]}
    if isinstance(value, date):
        return {"$date": date.isoformat(value)}
    if isinstance(value, time):
        return {"$time": [time.isoformat(value), value.fold, _zone(value.tzinfo)]}
    if isinstance(value, timedelta):
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, Decimal):
        return {"$decimal": Decimal.__str__(value)}
    if isinstance(value, UUID):
        return {"$uuid": value.hex}
    return None


def _zone(zone: tzinfo | None) -> str | None:
    return zone.key if isinstance(zone, ZoneInfo) else None


def _object(pairs: list[tuple[Any, Any]]) -> Any:
    plain = all(isinstance(key, str) for key, _ in pairs)
    if plain and not (len(pairs) == 1 and pairs[0][0].startswith("$")):
        return dict(pairs)
    return {"$dict": [[key, value] for key, value in pairs]}


def _sorted(encoded: Any) -> list[Any]:
    return sorted(encoded, key=orjson.dumps)


def _text(value: Any) -> dict[str, Any]:
    for said in (str, repr, object.__repr__):
        try:
            return {"$text": _string(str.__str__(said(value)))}
        except Exception:
            continue  # the next way to say it may work
    return {"$text": f"<{type(value).__name__}>"}


def _tag(found: Any) -> str:
    """The tag of ``found``; empty if it stands for itself."""
    if isinstance(found, dict) and len(found) == 1:
        name = str(next(iter(found)))
        return name if name.startswith("$") else ""
    return ""


def _decoded(found: Any, parts: list[Any]) -> Any:
    if isinstance(found, list):
        return [_decoded(one, parts) for one in found]
    if not isinstance(found, dict):
        return found
    tag = _tag(found)
    if not tag:
        return {key: _decoded(value, parts) for key, value in found.items()}
    inside = found[tag]
    if tag == "$part":
        return parts[inside]
    if tag == "$dict":
        return {_decoded(key, parts): _decoded(value, parts) for key, value in inside}
    if tag in _CONTAINERS:
        return _CONTAINERS[tag](_decoded(one, parts) for one in inside)
    if tag not in _SCALARS:
        raise ValueError(f"expected a tag of an envelope ({', '.join([*_CONTAINERS, *_SCALARS])}), got: {tag}")
    return _SCALARS[tag](inside)


def _moment(kind: type[datetime] | type[time]) -> Callable[[Any], Any]:
    def read(written: Any) -> Any:
        text, fold, zone = written
        found = kind.fromisoformat(text).replace(fold=fold)
        if zone is None:
            return found
        try:
            return found.replace(tzinfo=ZoneInfo(zone))
        except Exception:
            return found  # a zone that this machine does not know: the same moment, by its offset

    return read


def _surrogates(encoded: str) -> str:
    return base64.b64decode(encoded).decode("utf-8", "surrogatepass")


def _as_text(written: Any) -> str:
    return str(_decoded(written, []))


_CONTAINERS: dict[str, Callable[[Any], Any]] = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}

_SCALARS: dict[str, Callable[[Any], Any]] = {
    "$surrogates": _surrogates,
    "$int": lambda text: int(text, 16),
    "$float": float,
    "$bytes": base64.b64decode,
    "$datetime": _moment(datetime),
    "$date": date.fromisoformat,
    "$time": _moment(time),
    "$timedelta": lambda parts: timedelta(*parts),
    "$decimal": Decimal,
    "$uuid": UUID,
    "$text": _as_text,
}
