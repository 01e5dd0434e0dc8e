"""The table of transitions of an entry and their only writer. Every write is one UPDATE whose WHERE is the guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce, Now

from pause_manager.models import PauseQueueEntry
from pause_manager.models.queue import PauseQueueQuerySet

Outcome = PauseQueueEntry.Outcome


class State(StrEnum):
    """What an entry is, by its columns ``finished_at``, ``outcome`` and ``confirmed_at``."""

    WAITING = "waiting"
    SENT = "sent"
    CONFIRMED = "confirmed"
    DROPPED = "dropped"
    EXPIRED = "expired"
    REVOKED = "revoked"


CONDITIONS: Mapping[State, Q] = {
    State.WAITING: Q(finished_at__isnull=True),
    State.SENT: Q(outcome=Outcome.SENT, confirmed_at__isnull=True),
    State.CONFIRMED: Q(outcome=Outcome.SENT, confirmed_at__isnull=False),
    State.DROPPED: Q(outcome=Outcome.DROPPED),
    State.EXPIRED: Q(outcome=Outcome.EXPIRED),
    State.REVOKED: Q(outcome=Outcome.REVOKED),
}


def state_of(entry: PauseQueueEntry) -> State:
    """What ``entry`` is."""
    if entry.finished_at is None:
        return State.WAITING
    if entry.outcome == Outcome.SENT:
        return State.SENT if entry.confirmed_at is None else State.CONFIRMED
    return State(entry.outcome)


@dataclass(frozen=True)
class EntryTransition:
    """One arrow: ``values`` are the columns that it sets; a caller may set more that say nothing of the state."""

    name: str
    sources: tuple[State, ...]
    target: State
    meaning: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def guard(self) -> Q:
        """The condition on the rows that it may change."""
        found = Q()
        for source in self.sources:
            found |= CONDITIONS[source]
        return found


_WAITS: Mapping[str, Any] = {
    "finished_at": None,
    "outcome": "",
    "sent_at": None,
    "confirmed_at": None,
    "confirmed_by": "",
    "problem": "",
    "resume_after": None,
}
_SENDS: Mapping[str, Any] = {
    "finished_at": Now(),
    "outcome": Outcome.SENT,
    "sent_at": Now(),
    "generation": F("generation") + 1,
}

SEND = EntryTransition(
    "send", (State.WAITING,), State.SENT, "nothing stops it any more: its message is sent after the commit", _SENDS
)
SEND_RUN = EntryTransition(
    "send_run",
    (State.WAITING,),
    State.CONFIRMED,
    "the same of a run, which dispatch looks after from here: nobody confirms its message",
    {**_SENDS, "confirmed_at": Now()},
)
CONFIRM = EntryTransition(
    "confirm",
    (State.SENT, State.CONFIRMED),
    State.CONFIRMED,
    "a worker has received the message and runs its task, or does so again after a crash",
    {"confirmed_at": Coalesce("confirmed_at", Now()), "losses": 0, "problem": ""},
)
DISCARD = EntryTransition(
    "discard",
    (State.SENT,),
    State.CONFIRMED,
    "a worker has thrown the message away by Celery's own rules",
    {"confirmed_at": Now()},
)
UNCONFIRM = EntryTransition(
    "unconfirm",
    (State.SENT, State.CONFIRMED),
    State.SENT,
    "its task was broken off, and the broker delivers the message again",
    {"confirmed_at": None, "confirmed_by": ""},
)
PARK = EntryTransition(
    "park",
    (State.SENT, State.CONFIRMED),
    State.WAITING,
    "its worker parks the message (again), or what is left of it, in the place that it had",
    {**_WAITS, "attempts": F("attempts") + 1, "losses": 0, "is_forced": False},
)
REOPEN = EntryTransition(
    "reopen", (State.SENT, State.CONFIRMED), State.WAITING, "its message or its worker was lost, or refused", _WAITS
)
REQUEUE = EntryTransition(
    "requeue",
    (State.WAITING, State.SENT),
    State.WAITING,
    "a person has changed its task or its queue",
    {**_WAITS, "losses": 0},
)
DROP = EntryTransition(
    "drop",
    (State.WAITING, State.SENT, State.CONFIRMED),
    State.DROPPED,
    "a person drops it, the hold it waits for is released, or the same was parked again",
    {"outcome": Outcome.DROPPED, "finished_at": Now()},
)
EXPIRE = EntryTransition(
    "expire",
    (State.WAITING,),
    State.EXPIRED,
    "its time to run was over while it waited",
    {"outcome": Outcome.EXPIRED, "finished_at": Now()},
)
REVOKE = EntryTransition(
    "revoke",
    (State.SENT,),
    State.REVOKED,
    "its task was revoked while it waited, and a worker has thrown the message away",
    {"outcome": Value(Outcome.REVOKED), "confirmed_at": Now()},
)
TABLE = (SEND, SEND_RUN, CONFIRM, DISCARD, UNCONFIRM, PARK, REOPEN, REQUEUE, DROP, EXPIRE, REVOKE)


def apply(transition: EntryTransition, entries: PauseQueueQuerySet, **values: Any) -> int:
    """Make ``transition`` for those of ``entries`` that it may change, with ``values`` besides; returns how many."""
    return entries.order_by().filter(transition.guard).update(**{**transition.values, **values})
