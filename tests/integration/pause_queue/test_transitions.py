"""The transitions of an entry, as a table: every legal pair happens, every other is refused and leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models.functions import Now

from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue import transitions
from pause_manager.pause_queue.transitions import CONDITIONS, TABLE, EntryTransition, State
from tests.support.parked_rows import keep

pytestmark = pytest.mark.django_db

COLUMNS: dict[State, dict[str, Any]] = {
    State.WAITING: {},
    State.SENT: {"outcome": "sent", "finished_at": Now(), "sent_at": Now(), "generation": 1},
    State.CONFIRMED: {"outcome": "sent", "finished_at": Now(), "confirmed_at": Now(), "confirmed_by": "a turn"},
    State.DROPPED: {"outcome": "dropped", "finished_at": Now()},
    State.EXPIRED: {"outcome": "expired", "finished_at": Now()},
    State.REVOKED: {"outcome": "revoked", "finished_at": Now(), "confirmed_at": Now()},
}
PAIRS = [(transition, source) for transition in TABLE for source in State]
LEGAL = [(transition, source) for transition, source in PAIRS if source in transition.sources]
ILLEGAL = [(transition, source) for transition, source in PAIRS if source not in transition.sources]


def entry_in(state: State) -> PauseQueueEntry:
    (entry,) = keep()
    PauseQueueEntry.objects.filter(pk=entry.pk).update(problem="refused", losses=2, **COLUMNS[state])
    entry.refresh_from_db()
    assert transitions.state_of(entry) == state
    return entry


def row(entry: PauseQueueEntry) -> dict[str, Any]:
    return dict(PauseQueueEntry.objects.filter(pk=entry.pk).values().get())


@pytest.mark.parametrize(("transition", "source"), LEGAL, ids=lambda one: getattr(one, "name", one))
def test_every_legal_pair_ends_in_the_target(transition: EntryTransition, source: State):
    entry, other = entry_in(source), entry_in(source)

    assert transitions.apply(transition, PauseQueueEntry.objects.filter(pk=entry.pk)) == 1

    entry.refresh_from_db()
    assert transitions.state_of(entry) == transition.target
    assert row(other) == vars_of(other), "and no other row is touched"


def vars_of(entry: PauseQueueEntry) -> dict[str, Any]:
    return {field.attname: getattr(entry, field.attname) for field in PauseQueueEntry._meta.concrete_fields}


@pytest.mark.parametrize(("transition", "source"), ILLEGAL, ids=lambda one: getattr(one, "name", one))
def test_every_other_pair_is_refused_and_leaves_no_trace(transition: EntryTransition, source: State):
    entry = entry_in(source)
    before = row(entry)

    assert transitions.apply(transition, PauseQueueEntry.objects.filter(pk=entry.pk), reason="another") == 0

    assert row(entry) == before


@pytest.mark.parametrize("state", State)
def test_an_entry_is_in_one_state(state: State):
    entry = entry_in(state)

    found = [one for one, condition in CONDITIONS.items() if PauseQueueEntry.objects.filter(condition, pk=entry.pk)]

    assert found == [state]
