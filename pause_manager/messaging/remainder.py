"""What is left of a task that leaves at a boundary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery.utils.saferepr import saferepr
from kombu import serialization

_NAMES: dict[str, str] = serialization.registry.type_to_name  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Remainder:
    """What is left of a task that leaves at a boundary: the arguments of its next part, serialised as its own were."""

    body: bytes
    content_type: str
    content_encoding: str
    argsrepr: str
    kwargsrepr: str
    reason: str
    was_held: bool
    """It leaves because a hold said so; else it waits for room, or left by itself."""
    too_much: tuple[str, float] | None = None
    """The resource that said "too much" to it, and for how many seconds it asks to be let alone."""
    failure: Mapping[str, Any] | None = None
    """What it has failed with, if its retries are used up and a person is to be asked; see ``pausable.exhaustion``."""

    @classmethod
    def of(
        cls,
        task: Any,
        request: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        content_type: str | None,
        reason: str,
        was_held: bool,
    ) -> Remainder:
        """The rest of a task that runs with ``request``, as a call with these arguments; its canvas stays.

        ``content_type``: as its message came, if that is known.
        """
        embed = {name: request.get(name) for name in ("callbacks", "errbacks", "chain", "chord")}
        came_as = _NAMES.get(content_type or "")
        serialised_as, content_encoding, payload = serialization.dumps(
            (list(args), dict(kwargs), embed), serializer=came_as or task.serializer or task.app.conf.task_serializer
        )
        return cls(
            as_bytes(payload),
            serialised_as,
            content_encoding,
            saferepr(args, 1024),
            saferepr(kwargs, 1024),
            reason,
            was_held,
        )


def as_bytes(payload: Any) -> bytes:
    """The body of a message, which some transports give as text."""
    return payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else bytes(payload)
