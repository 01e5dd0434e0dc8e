"""Declared items in a real run: checked when it is created, and where one stage hands to the next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from automation.agents import submission
from automation.agents.submission import Submission
from automation.errors import InvalidCheckpoint, InvalidInput
from automation.gate import installed_code
from automation.models import AutomationRun, ItemFailure
from automation.pipeline import AGENT, GroupStage, Payload, Pipeline, Stage, register
from automation.pipeline.context import StageContext
from tests.support.factories import leased, make_run, outputs, settle, stage_of

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Number:
    n: int


@dataclass
class Squared:
    square: int


class Square(Stage):
    slug = "square"
    title = "Square"
    item_type = Number
    max_failures = None
    checkpoint_interval = 0

    def process(self, item: Number, ctx: StageContext) -> Iterable[Any]:
        yield Squared(item.n**2)
        if item.n == 3:
            yield {"square": "nine"}


class Sum(GroupStage):
    slug = "sum"
    title = "Sum"
    item_type = Squared
    group_size = 2

    def process(self, items: Any, ctx: StageContext) -> Iterable[Payload]:
        yield {"sum": sum(item.square for item in items)}


@register
class Squares(Pipeline):
    slug = "squares"
    title = "Squares"
    stages = (Square, Sum)


def test_objects_go_from_stage_to_stage():
    run = settle(make_run("squares", [{"n": 1}, {"n": "2"}]))

    assert run.lifecycle == "completed"
    assert outputs(run) == [{"sum": 5}]


def test_an_output_that_the_next_stage_cannot_take_fails_the_item_that_made_it():
    run = settle(make_run("squares", [{"n": 2}, {"n": 3}, {"n": 4}]))

    failure = ItemFailure.objects.get()
    assert (failure.stage_run.slug, failure.payload) == ("square", {"n": 3})
    assert failure.error == (
        "UnfitPayload: output 2 does not fit stage sum: expected Squared (square: int); square: Input should be a "
        "valid integer, unable to parse string as an integer, got: 'nine'"
    )
    assert outputs(run, "square") == [{"square": 4}, {"square": 16}]
    assert outputs(run) == [{"sum": 20}]


class Remote(Stage):
    slug = "remote-square"
    title = "Remote"
    executor = AGENT
    slice_size = 2


@register
class RemoteSquares(Pipeline):
    slug = "remote-squares"
    title = "Remote squares"
    stages = (Remote, Sum)


def test_an_agent_is_told_that_its_outputs_do_not_fit():
    run = make_run("remote-squares", [{"n": 1}, {"n": 2}])
    stage_run, work = stage_of(run), leased(run)

    good = Submission(cursor="000", outputs={"000": [{"square": 1}]})
    assert submission.progress_of(work, stage_run, good).processed == 1
    bad = Submission(cursor="001", outputs={"000": [], "001": [{"square": 4}, {"cube": 8}]})
    with pytest.raises(InvalidCheckpoint, match="item 001: output 2 does not fit stage sum: expected Squared"):
        submission.progress_of(work, stage_run, bad)


def test_an_input_that_does_not_fit_creates_no_run():
    with pytest.raises(InvalidInput, match=r"Cannot use item 2: expected Number \(n: int\); n: Field required"):
        make_run("squares", [{"n": 1}, {"m": 2}])

    assert not AutomationRun.objects.exists()


def test_stages_that_declare_nothing_ask_nothing(django_assert_num_queries):
    stage_run = stage_of(make_run("fan-out", 3))

    with django_assert_num_queries(0):
        assert installed_code.readers_of(stage_run) == []
