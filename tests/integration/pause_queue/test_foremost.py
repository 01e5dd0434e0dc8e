"""Which of the waiting entries a poll looks at."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from pause_manager import holds
from pause_manager.models import PauseQueueEntry
from pause_manager.pause_queue import heads
from tests.support.factories import OPERATOR

pytestmark = pytest.mark.django_db(transaction=True)

KINDS = [(needs, pipeline) for needs in ({"cpu": 1.0}, {"cpu": 4.0}) for pipeline in ("", "content")]
AGEING_SECONDS = 600.0


@pytest.mark.req("P-22")
@pytest.mark.parametrize("ageing", [0.0, AGEING_SECONDS])
def test_the_foremost_of_each_kind_are_the_most_urgent_and_oldest_that_may_go(ageing):
    dice, now, count = random.Random(7), datetime.now(UTC), 4
    entries = []
    for number in range(200):
        needs, pipeline = dice.choice(KINDS)
        # In the middle of a step of ageing, so that the moment of asking plays no part.
        waited = timedelta(seconds=300 + AGEING_SECONDS * dice.randrange(4) + number / 10)
        entry = PauseQueueEntry(
            ref=f"import:{number}",
            task_name="others.work",
            queue="held" if number % 5 == 0 else "control",
            priority=dice.randint(1, 5),
            needs=needs,
            pipeline=pipeline,
            paused_at=now - waited,
            resume_after=now + timedelta(hours=1) if number % 7 == 0 else None,
            reason="full",
        )
        entries.append((entry, waited.total_seconds()))
    PauseQueueEntry.objects.bulk_create(entry for entry, _ in entries)
    holds.place(["queue:held"], actor=OPERATOR)

    def urgency(one):
        entry, waited = one
        steps = waited // ageing if ageing else 0
        return max(1, entry.priority - steps), entry.paused_at, entry.pk

    expected = set()
    for needs, pipeline in KINDS:
        alike = [
            (entry, waited)
            for entry, waited in entries
            if (entry.needs, entry.pipeline, entry.queue, entry.resume_after) == (needs, pipeline, "control", None)
        ]
        expected |= {entry.ref for entry, _ in sorted(alike, key=urgency)[:count]}
    found = heads.foremost(count, ageing)

    assert {entry.ref for entry, _ in entries if entry.pk in {one.pk for one in found}} == expected
    assert len(expected) == count * len(KINDS)
