"""A reason why work does not proceed, as every entry point shows it, and the list of all codes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class ReasonCode(StrEnum):
    """Every code of a reason, of both apps, and what it means, in the order in which the reasons of a run are listed.

    Made from it are the choices of the API, the pages of reference and what the console says about a code.
    """

    meaning: str

    def __new__(cls, code: str, meaning: str = "") -> ReasonCode:
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    FINISHED = "finished", "The run has ended."
    CLOSED = "closed", "The site takes no new runs."
    CANCEL = "cancel", "A cancel was requested."
    COPYING = "copying", "A retry whose items are still being copied."
    UNREADABLE = "unreadable", "Something that decides cannot be read; nothing starts until it can."
    FLEET = "fleet", "The fleet is paused."
    FREEZE = "freeze", "Its lane is frozen."
    DEPENDENCY = "dependency", "A run that it depends on has not completed."
    OPERATOR = "operator", "An operator holds the run, its pipeline or a queue."
    WINDOW = "window", "A pause window holds its pipeline, lane, queue or resource; the reason says until when."
    LANE = "lane", "All places of its lane are taken, or go to runs before it."
    NODE = "node", "Every node that could run it is held."
    BUDGET = "budget", "A budget holds it."
    NEEDS_INPUT = "needs_input", "A question must be answered first."
    THROTTLED = "throttled", 'A resource that its stage uses said "too much"; it is asked again at a stated time.'
    CAPACITY = "capacity", "It waits for capacity."
    CODE_MISSING = "code_missing", "This release lacks a stage or the pipeline of the run."
    FILES_NOT_SHARED = "files_not_shared", "Workers keep files in different storages."
    RESOURCE = "resource", "A resource that its stage uses has no free place: by its limit, or while it is asked again."
    DELAY = "delay", "It waits between two batches or two stages; the reason says until when."
    NO_AGENT = "no_agent", "No remote agent asks for this stage."
    NO_WORKER = "no_worker", "No live worker serves its queue."
    NO_FREE_WORKER = "no_free_worker", "All workers of its queue are busy with other runs."
    AT_WORK = "at_work", "A pause or cancel waits for an item that is being processed."
    GIVES_WAY = "gives_way", "It was asked to leave its node. The run continues elsewhere."
    FAILING = "failing", "Loops of a stage fail before any item is to blame."
    WAITS = "waits", "A provider asked an item to wait."
    LOSES_WORKERS = "loses_workers", "Leases on the same item keep ending without anyone to blame."
    ITEM_LIMIT = "item_limit", "A stage leaves items out, as it is limited to a number of them."
    NOT_BEFORE = "not_before", "A parked task has asked not to resume before a time."
    REFUSED = "refused", "The broker refuses a parked message."
    UNKNOWN_TASK = "unknown_task", "No worker that received a parked message knows its task."
    UNCONFIRMED = "unconfirmed", "A parked message was sent several times and no worker took it up."
    DISABLED = "disabled", "The agent is disabled."
    SILENT = "silent", "The agent has not called lately."
    NO_WORK = "no_work", "Nothing that the agent may take is due."


ORDER = tuple(str(code) for code in ReasonCode)
"""The order of the reasons of a run, from the first, which is the one that a list shows. What cannot be read comes
first, or where its layer would."""


@dataclass(frozen=True)
class Reason:
    """One reason why a run, a parked task or an agent may not proceed.

    ``code`` is for machines, one of :class:`ReasonCode` (``ValueError`` for another), ``sentence`` for people,
    ``since`` the time it began, ``actor`` who caused it and ``lifted_by`` what would end it.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", ReasonCode(self.code))

    @property
    def meaning(self) -> str:
        """What its code means, in a sentence."""
        return ReasonCode(self.code).meaning

    def as_dict(self) -> dict[str, Any]:
        """The reason for JSON; ``since`` in ISO 8601."""
        told = asdict(self) | {
            "code": str(self.code),
            "since": self.since.isoformat() if self.since else None,
            "figures": dict(self.figures),
        }
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
