"""The priority of a message: 1 (first) to 5, whatever the broker counts by; 3 where its sender wished for none.

kombu sends priority 0 where none is given, which is first on Redis and last on RabbitMQ. So every publisher writes
down what was wished for; a 0 of others is no wish.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WISH = "pause-priority"
"""The header that says which priority, in the broker's own numbers, the sender gave."""

DEFAULT = 3
_FIRST_IS_0 = frozenset({"redis"})
"""By kombu's ``driver_type``, so that Sentinel and TLS are what they stand on. On all others 9 is first."""


def wished(headers: dict[str, Any] | None, properties: Mapping[str, Any]) -> None:
    """Write down in the headers of a message that is about to be published what its sender wished for."""
    given = properties.get("priority")
    # A retry gives what its message came with, wished for or not; its headers came along.
    if headers is not None and given is not None and WISH not in headers and not headers.get("retries"):
        headers[WISH] = given


def of_message(headers: Mapping[str, Any], properties: Mapping[str, Any], driver_type: str) -> int:
    """1 (first) to 5, of a message on a broker of that kind."""
    given = headers.get(WISH)
    if not isinstance(given, int):
        given = properties.get("priority") or None
    if not isinstance(given, int):
        return DEFAULT
    step = max(0, min(given, 9)) // 2
    return 1 + step if driver_type in _FIRST_IS_0 else 5 - step
