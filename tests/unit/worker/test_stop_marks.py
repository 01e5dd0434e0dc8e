"""A task keeps the mark by which it asks whether to stop, whatever the supervisor reads meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from pause_manager.pausable.parked_messages import Permit
from pause_manager.slots import shared_state
from pause_manager.worker.stop_marks import StopMarks


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> shared_state.SharedState:
    made = shared_state.SharedState.make(is_told=False)
    monkeypatch.setattr(shared_state, "current", lambda: made)
    return made


def request_of(turn: Permit) -> Any:
    return SimpleNamespace(turn=turn)


def permit() -> Permit:
    return Permit(uuid4(), row=1)


def test_a_task_asks_from_its_mark_until_it_is_not_in_hand(page: shared_state.SharedState):
    in_hand: list[Any] = []
    marks = StopMarks(in_hand)
    first, second = permit(), permit()
    in_hand += [request_of(first), request_of(second)]
    numbers = [marks.give(first), marks.give(second)]
    assert numbers[1] is not None

    page.mark(numbers[1])

    assert numbers == [0, 1]
    assert marks.asking() == [str(second.id)]
    in_hand.clear()
    assert marks.asking() == []


def test_a_task_without_a_row_has_no_mark(page: shared_state.SharedState):
    assert StopMarks([]).give(Permit(uuid4())) is None


def test_a_mark_that_is_given_while_the_supervisor_reads_is_kept(page: shared_state.SharedState):
    """Seen to fail with the requests read before the lock: the mark was forgotten and given to another task."""
    new = permit()
    given: list[int | None] = []

    class InHand:
        is_given = False

        def __iter__(self) -> Iterator[Any]:
            if self.is_given:
                return iter([request_of(new)])
            # What follows happens in the worker's loop, between this snapshot and what is done with it.
            self.is_given = True
            self.loop = Thread(target=lambda: given.append(marks.give(new)))
            self.loop.start()
            self.loop.join(0.2)
            return iter([])

    in_hand = InHand()
    marks = StopMarks(in_hand)
    marks.asking()
    in_hand.loop.join()
    assert given[0] is not None
    page.mark(given[0])

    assert marks.asking() == [str(new.id)]
