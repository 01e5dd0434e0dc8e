"""Many may see at once that a pause has come to rest, or that work has gone on: it is measured once."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import connection, transaction

from pause_manager import holds
from pause_manager.models import Hold
from tests.concurrency.racing import race
from tests.factories import OPERATOR

pytestmark = pytest.mark.django_db(transaction=True)


def test_of_many_who_see_it_one_notes_it():
    for n in range(20):
        scope = f"queue:{n}"
        holds.place([scope], actor=OPERATOR)

        settled = race(*[partial(holds.settled, [scope])] * 6)
        holds.release([scope], actor=OPERATOR)
        went_on = race(*[partial(holds.went_on, [scope])] * 6)

        assert sum(settled) == sum(went_on) == 1


def test_noting_waits_for_nobody_who_changes_the_hold():
    holds.place(["queue:a", "queue:b"], actor=OPERATOR)

    with transaction.atomic():
        Hold.objects.select_for_update().get(scope="queue:a")
        (noted,) = race(partial(holds.settled, ["queue:a", "queue:b"]))

    assert noted == 1
    assert holds.settled(["queue:a", "queue:b"]) == 1
    assert connection.is_usable()
