"""The marks on the page by which tasks say that they ask whether they should stop, and which task has which."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from pause_manager.pausable.parked_messages import Permit
from pause_manager.slots import shared_state
from pause_manager.worker.open_requests import open_requests
from pause_manager.worker.request import PausableRequest


class StopMarks:
    """Those of one worker. ``requests`` are what it has in hand: a task keeps its mark as long as it is among them."""

    def __init__(self, requests: Iterable[PausableRequest]) -> None:
        self._requests = requests
        self._turns: dict[int, Permit] = {}
        self._lock = threading.Lock()
        self._next = 0

    def give(self, turn: Permit) -> int | None:
        """A number for the task of ``turn``, whose request has this turn already.

        ``None`` if there is no page, all are taken, or nobody could tell the task to stop, as it has no row.
        """
        page = shared_state.current()
        if turn.row is None or page is None:
            return None
        with self._lock:
            for _ in range(shared_state.MOST_MARKS):
                number = self._next
                self._next = (number + 1) % shared_state.MOST_MARKS
                if number not in self._turns:
                    page.unmark(number)
                    self._turns[number] = turn
                    return number
        return None

    def asking(self) -> list[str]:
        """The ids of the turns whose tasks ask; the marks of those that are not in hand any more are free again."""
        page = shared_state.current()
        if page is None:
            return []
        with self._lock:
            # Read under the lock: who is given a mark meanwhile is not among those that were in hand before.
            in_hand = {request.turn.id for request in self._requests if request.turn is not None}
            self._turns = {number: turn for number, turn in self._turns.items() if turn.id in in_hand}
            return [str(turn.id) for number, turn in self._turns.items() if page.is_marked(number)]


stop_marks = StopMarks(open_requests)
"""Those of this process."""
