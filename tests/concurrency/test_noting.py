"""Many may see at once that a pause has come to rest, or that work has gone on: it is noted and told once."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import connection, transaction

from pause_manager import holds
from pause_manager.holds import milestones
from pause_manager.models import ControlEvent, Hold
from pause_manager.nodes import members
from tests.support.factories import OPERATOR
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)


def report(worker: str, queue: str, *, at_work: int) -> None:
    """A worker that obeys whatever is held says what it has in hand."""
    in_hand = {queue: (at_work, 0)} if at_work else {}
    members.acknowledge(worker, node="n", queues=[queue], version=1, revision=10**6, in_hand=in_hand)


def hold_at_work(*queues: str) -> None:
    """Hold the queues, each with a task at work."""
    for queue in queues:
        report(f"of-{queue}", queue, at_work=1)
    holds.place([f"queue:{queue}" for queue in queues], actor=OPERATOR)


def test_of_many_who_see_it_one_notes_it():
    for n in range(20):
        scope = f"queue:{n}"
        hold_at_work(str(n))

        settled = race(*[partial(milestones.note_drained, [scope])] * 6)
        holds.release([scope], actor=OPERATOR)
        went_on = race(*[partial(milestones.note_work_resumed, [scope])] * 6)

        assert sum(settled) == sum(went_on) == 1
        told = ControlEvent.objects.filter(scope=scope).order_by("pk").values_list("action", flat=True)
        assert list(told) == ["hold_placed", "settled", "hold_released", "went_on"]


def test_of_the_last_that_end_together_one_tells():
    for n in range(20):
        hold_at_work(f"{n}-a")
        report("another", f"{n}-a", at_work=1)

        def end(worker: str, queue: str = f"{n}-a") -> int:
            report(worker, queue, at_work=0)
            return milestones.detect_drained([f"queue:{queue}"])

        seen = race(partial(end, f"of-{n}-a"), partial(end, "another"))

        assert sum(seen) == 1, "whoever is the last sees it, and one of them tells"


def test_noting_waits_for_nobody_who_changes_the_hold():
    hold_at_work("a", "b")

    with transaction.atomic():
        Hold.objects.select_for_update().get(scope="queue:a")
        (noted,) = race(partial(milestones.note_drained, ["queue:a", "queue:b"]))

    assert noted == 1
    assert milestones.note_drained(["queue:a", "queue:b"]) == 1
    assert connection.is_usable()
