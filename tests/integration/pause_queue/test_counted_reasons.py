"""Parked tasks are counted by what they wait for as each of them is explained."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from django.db.models.functions import Now

from pause_manager import holds, resources
from pause_manager.models import Hold, PauseQueueEntry
from pause_manager.nodes import members
from pause_manager.pause_queue import explanation, parked_tasks
from tests.support.factories import OPERATOR
from tests.support.parked_rows import keep

pytestmark = pytest.mark.django_db(transaction=True)

QUEUES = ("gpu", "mail")
USES: tuple[list[str], ...] = ([], ["model"], ["model", "mails"])
SCOPES = ("fleet", "queue:gpu", "queue:mail", "resource:model", "resource:mails")
KINDS = (Hold.Kind.OPERATOR, Hold.Kind.WINDOW, Hold.Kind.THROTTLED)


def counted_one_by_one() -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in PauseQueueEntry.objects.waiting():
        keeping = [reason.code for reason in explanation.explain(entry).reasons if reason.keeps]
        found[keeping[0] if keeping else parked_tasks.STARTING] += 1
    return found


def some_entries(random: Random) -> None:
    for number in range(30):
        waits_for = random.choice(("hold", "hold", "hold", "capacity", "answer"))
        values: dict[str, Any] = {"failure": {"error_class": "E", "error": "e"}} if waits_for == "answer" else {}
        queue = random.choice(QUEUES)
        values |= {"uses": random.choice(USES), "work_queue": random.choice(("", queue))}
        if random.random() < 0.3:
            values["resume_after"] = Now() + timedelta(hours=random.choice((-1, 1)))
        keep(1, queue=queue, task=f"one-{number % 3}", waits_for=waits_for, **values)


@pytest.mark.parametrize("seed", range(12))
def test_every_state_is_counted_as_it_is_explained(seed: int):
    random = Random(seed)
    members.acknowledge("w1", node="n1", queues=list(QUEUES), version=0)
    some_entries(random)
    for scope in random.sample(SCOPES, random.randint(0, 3)):
        kind = Hold.Kind.OPERATOR if scope == "fleet" else random.choice(KINDS)
        holds.place([scope], kind=kind, actor=OPERATOR, reason="demo")
    if random.random() < 0.5:
        resources.set_limits("model", {"max_at_once": 1}, actor=OPERATOR)
        resources.set_limits("model", {"max_per_minute": 1}, actor=OPERATOR)
        resources.take_starts("model", 1)

    expected = counted_one_by_one()

    assert Counter(parked_tasks.by_reason()) == expected
    assert len(expected) > 1 or seed == 0, "the states differ"


def test_a_task_that_waits_for_a_held_resource_is_not_counted_as_starting():
    keep(3, uses=["model"], waits_for="hold")
    keep(2, uses=[], waits_for="hold")
    holds.place(["resource:model"], actor=OPERATOR, reason="the provider moves")

    assert parked_tasks.by_reason() == {"operator": 3, "starting": 2}
