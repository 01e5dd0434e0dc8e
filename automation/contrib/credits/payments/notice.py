"""What a provider tells in one event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from automation.contrib.credits.errors import NoticeInvalid

LONGEST = 150
MOST = 10**15


class Effect(Enum):
    """What follows from an event."""

    PAID = "paid"
    REFUNDED = "refunded"
    """``amount`` is all that was paid back so far."""
    REVIEW = "review"
    """Money is in question, and a person decides."""
    NONE = "none"


@dataclass(frozen=True)
class Notice:
    """An event. ``amount`` is in the smallest unit of the currency, such as cents."""

    event_id: str
    kind: str
    effect: Effect
    reference: str = ""
    """Of the payment that was ordered here."""
    external_id: str = ""
    """Of the payment at the provider."""
    amount: int = 0
    currency: str = ""


def loaded(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``. Raises ``NoticeInvalid``."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NoticeInvalid("expected JSON") from None
    if not isinstance(found, dict):
        raise NoticeInvalid("expected a JSON object")
    return found


def text(where: dict[str, Any], name: str, *, required: bool = True) -> str:
    """A text of the event. Raises ``NoticeInvalid``."""
    value = where.get(name)
    if value is None and not required:
        return ""
    # The database stores no NUL.
    if not isinstance(value, str) or len(value) > LONGEST or "\0" in value or (required and not value):
        raise NoticeInvalid(f"expected {name} as a text of 1 to {LONGEST} characters, got: {value!r:.40}")
    return value


def whole(where: dict[str, Any], name: str) -> int:
    """A whole number of the event. Raises ``NoticeInvalid``."""
    value = where.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise NoticeInvalid(f"expected {name} as a whole number >= 0, got: {value!r:.40}")
    return value
