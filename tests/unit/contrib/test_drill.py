"""The drill does what its parameters say, for real: it sleeps, burns, takes memory and fails."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from automation.contrib.drill.pipelines import MIB, Drill, DrillFailure, Work, take_memory
from automation.errors import InvalidParams
from automation.pipeline import Payload
from automation.pipeline.context import Interrupted
from tests.support.stage_runs import context, run_stage


def work(item: Payload, **params: Any) -> list[Payload]:
    return run_stage(Work, [item], Path("unused"), Drill.clean_params(params))


def test_items_are_numbered_from_one():
    assert list(Drill.make_items(Drill.clean_params({"items": "3"}))) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_each_item_yields_its_square():
    assert work({"n": 12}, seconds=0) == [{"n": 12, "square": 144}]


def test_sleeping_takes_time_and_no_processor():
    wall, processor = time.perf_counter(), time.process_time()
    work({"n": 1}, seconds=0.2)

    assert time.perf_counter() - wall >= 0.2
    assert time.process_time() - processor < 0.1


def test_burning_takes_processor_time():
    processor = time.thread_time()
    work({"n": 1}, seconds=0.3, mode="burn")

    assert time.thread_time() - processor > 0.02, "even if others use the machine; sleeping takes a hundredth of that"


@pytest.mark.parametrize("mode", ["sleep", "burn"])
def test_a_stop_interrupts_an_item(mode):
    ctx = context(Work, Path("unused"), Drill.clean_params({"seconds": 30, "mode": mode}))

    def stop(seconds: float) -> None:
        raise Interrupted

    ctx._sleep = stop

    with pytest.raises(Interrupted):
        list(Work().process({"n": 1}, ctx))


def test_memory_is_resident_and_not_only_promised():
    before = psutil.Process().memory_info().rss
    taken = take_memory(64)

    assert taken is not None
    assert psutil.Process().memory_info().rss - before > 60 * MIB


def test_every_third_item_fails_and_says_why():
    assert work({"n": 2}, seconds=0, fail_every=3)
    with pytest.raises(DrillFailure, match=r"Cannot finish item 3: fail_every=3 tells every such item to fail\."):
        work({"n": 3}, seconds=0, fail_every=3)


@pytest.mark.parametrize("params", [{"items": 0}, {"items": 10_000_001}, {"seconds": -1}, {"mode": "nap"}])
def test_senseless_parameters_are_refused(params):
    with pytest.raises(InvalidParams):
        Drill.clean_params(params)
