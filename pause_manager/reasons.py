"""A reason why work does not proceed, as every entry point shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Reason:
    """One reason why a run, a parked task or an agent may not proceed.

    ``code`` is for machines, ``sentence`` for people, ``since`` the time it began, ``actor`` who caused it and
    ``lifted_by`` what would end it.
    """

    code: str
    sentence: str
    since: datetime | None
    actor: str
    lifted_by: str
    keeps: bool = True
    """Whether it keeps work from beginning; else it says why nobody begins."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What it rests on, for machines: of a hold its ``scope``, ``kind``, ``mode`` and ``expires_at``."""

    def as_dict(self) -> dict[str, Any]:
        """The reason for JSON; ``since`` in ISO 8601."""
        told = asdict(self) | {"since": self.since.isoformat() if self.since else None, "figures": dict(self.figures)}
        del told["keeps"]
        return told


@dataclass(frozen=True)
class Explanation:
    """Every reason, in order, and the place among what waits for the same."""

    reasons: tuple[Reason, ...]
    position: int | None = None
    """1 is next; ``None`` if it waits in no line."""
    expected_start: datetime | None = None
    """From measured rates; ``None`` if that is not known."""

    @property
    def may_start(self) -> bool:
        """Whether nothing keeps it."""
        return may_proceed(self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "may_start": self.may_start,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "position": self.position,
            "expected_start": self.expected_start.isoformat() if self.expected_start else None,
        }


def may_proceed(reasons: Iterable[Reason]) -> bool:
    """Whether none of them keeps the work: that some of it waits or fails, or nobody comes for it, keeps nothing."""
    return not any(reason.keeps for reason in reasons)
