"""Many may see at once that a pause has come to rest, or that work has gone on: it is noted and told once."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import connection, transaction

from pause_manager import holds, settling
from pause_manager.models import ControlEvent, Hold, RunningTask
from tests.concurrency.racing import race
from tests.factories import OPERATOR

pytestmark = pytest.mark.django_db(transaction=True)


def hold_at_work(*queues: str) -> None:
    """Hold the queues, each with a task at work."""
    for queue in queues:
        RunningTask.objects.create(
            task_id=f"of-{queue}", task_name="shop.sell", queue=queue, node="n", worker="w", owner="o", acks_late=False
        )
    holds.place([f"queue:{queue}" for queue in queues], actor=OPERATOR)


def test_of_many_who_see_it_one_notes_it():
    for n in range(20):
        scope = f"queue:{n}"
        hold_at_work(str(n))

        settled = race(*[partial(settling.settled, [scope])] * 6)
        holds.release([scope], actor=OPERATOR)
        went_on = race(*[partial(settling.went_on, [scope])] * 6)

        assert sum(settled) == sum(went_on) == 1
        told = ControlEvent.objects.filter(scope=scope).order_by("pk").values_list("action", flat=True)
        assert list(told) == ["hold_placed", "settled", "hold_released", "went_on"]


def test_of_the_last_that_end_together_one_tells():
    for n in range(20):
        hold_at_work(f"{n}-a")
        RunningTask.objects.create(
            task_id="b", task_name="shop.sell", queue=f"{n}-a", node="n", worker="w", owner="o", acks_late=False
        )

        def end(pk: int, scope: str = f"queue:{n}-a") -> int:
            RunningTask.objects.filter(pk=pk).delete()
            return settling.look([scope])

        seen = race(
            *[partial(end, pk) for pk in RunningTask.objects.filter(queue=f"{n}-a").values_list("pk", flat=True)]
        )

        assert sum(seen) == 1, "whoever is the last sees it, and one of them tells"


def test_noting_waits_for_nobody_who_changes_the_hold():
    hold_at_work("a", "b")

    with transaction.atomic():
        Hold.objects.select_for_update().get(scope="queue:a")
        (noted,) = race(partial(settling.settled, ["queue:a", "queue:b"]))

    assert noted == 1
    assert settling.settled(["queue:a", "queue:b"]) == 1
    assert connection.is_usable()
