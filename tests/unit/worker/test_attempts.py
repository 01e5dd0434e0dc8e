"""What is worth another try, and when it comes."""

from __future__ import annotations

import pytest
from django.db import OperationalError

from automation.errors import PipelineError
from automation.pipeline import Pipeline, Stage, TryLater, register, retry_policy
from automation.worker.attempts import Fault, fault_of


def stage(**declared: object) -> Stage:
    made: Stage = type("Declared", (Stage,), declared)()
    return made


@pytest.mark.parametrize(
    ("declared", "is_tried_again"),
    [
        ({}, True),
        ({"no_retry_for": (ValueError,)}, True),
        ({"no_retry_for": (OSError,)}, False),
        ({"retry_for": (ConnectionError,)}, True),
        ({"retry_for": (ConnectionError,), "no_retry_for": (ConnectionResetError,)}, False),
        ({"retry_for": (ValueError,)}, False),
    ],
    ids=repr,
)
def test_a_stage_says_what_is_worth_another_try(declared, is_tried_again):
    assert retry_policy.is_tried_again(stage(**declared), ConnectionResetError("reset")) is is_tried_again


def test_waits_double_up_to_a_minute_and_differ():
    declared = stage(retry_backoff=10, retry_jitter=0.5)

    waits = [[retry_policy.backoff(declared, number) for _ in range(50)] for number in (1, 2, 10_000)]

    for some, about in zip(waits, (10, 20, 60), strict=True):
        assert all(about / 2 <= one <= about * 3 / 2 for one in some)
        assert len(set(some)) > 1
    assert retry_policy.backoff(stage(retry_backoff=10, retry_jitter=0), 1) == 10


@pytest.mark.parametrize(
    "declared",
    [
        {"retry_for": ConnectionError},
        {"no_retry_for": ("ValueError",)},
        {"retry_jitter": 2},
        {"max_waits": -1},
        {"max_wait_seconds": "1h"},
        {"max_item_bytes": 0},
        {"loop_retries": None},
    ],
    ids=repr,
)
def test_what_is_declared_wrongly_is_refused(declared):
    [field] = declared
    made = type("Wrong", (Stage,), {"slug": "s", "title": "S", "process": lambda self, item, ctx: [], **declared})

    with pytest.raises(PipelineError, match=rf"stage Wrong\.{field} expected "):
        register(type("Wrongly", (Pipeline,), {"slug": "wrongly", "title": "Wrongly", "stages": (made,)}))


def test_a_database_of_the_stages_own_that_is_away_is_the_items_fault(db):
    assert fault_of(OperationalError("connection to server at 10.0.0.9 failed"), None) is Fault.ITEM
    assert fault_of(TryLater(3), None) is Fault.LATER
