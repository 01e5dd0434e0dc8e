"""``setup`` and ``teardown`` run once a loop, and ``prepare`` keeps nothing on the stage."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

import pytest

from automation.models import Lifecycle
from automation.pipeline import Payload, Stage
from automation.pipeline.context import StageContext
from automation.runs import lifecycle
from tests.support.factories import OPERATOR, drain, everybody_has_heard, make_run, outputs, run_loop, settle
from tests.support.pipelines import ScriptedPipeline

pytestmark = pytest.mark.django_db(transaction=True)


class Loaded(Stage):
    """Notes what is called, in order."""

    slug = "scripted"
    title = "Loaded"
    slice_size = 2
    calls: ClassVar[list[str]] = []

    def setup(self, ctx: StageContext) -> None:
        self.calls.append("setup")
        self.model = "model"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        self.calls.append(f"item {item['n']}")
        yield {"n": item["n"], "model": self.model}

    def teardown(self, ctx: StageContext) -> None:
        self.calls.append("teardown")
        del self.model


class SlowlyLoaded(Loaded):
    def setup(self, ctx: StageContext) -> None:
        time.sleep(0.1)
        super().setup(ctx)


class LongLoaded(SlowlyLoaded):
    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        time.sleep(0.03)
        yield item


class Prepared(Loaded):
    def prepare(self, ctx: StageContext) -> None:
        self.calls.append("prepare")

    def finish(self, ctx: StageContext, outputs: Iterable[Payload]) -> None:
        self.calls.append("finish")


class Keeps(Stage):
    slug = "scripted"
    title = "Keeps"

    @cached_property
    def words(self) -> list[str]:
        return ["a"]

    def prepare(self, ctx: StageContext) -> None:
        assert self.words
        self.model = "model"

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        yield item


@pytest.fixture(autouse=True)
def no_calls(monkeypatch):
    monkeypatch.setattr(Loaded, "calls", [])


def running(stage, monkeypatch, items=6):
    monkeypatch.setattr(ScriptedPipeline, "stages", (stage,))
    return make_run("scripted", items=items)


def test_a_set_up_that_takes_longer_than_a_loop_does_is_worth_its_time(settings, monkeypatch):
    settings.AUTOMATION = {**settings.AUTOMATION, "loop_seconds": 0.05}
    run = running(SlowlyLoaded, monkeypatch, items=2)

    run_loop(run)

    assert [output["n"] for output in outputs(run)] == [1, 2]


def test_what_is_long_in_loading_is_kept_for_ten_times_as_long(settings, monkeypatch):
    """Else a model that takes a minute would be loaded again each minute."""
    settings.AUTOMATION = {**settings.AUTOMATION, "loop_seconds": 0.05}
    run = running(LongLoaded, monkeypatch, items=15)

    run_loop(run)

    assert len(outputs(run)) == 15
    assert Loaded.calls.count("setup") == 1


def test_a_loop_sets_up_once_before_its_first_item_and_takes_down_at_its_end(monkeypatch):
    run = drain(running(Loaded, monkeypatch))

    assert run.lifecycle == Lifecycle.COMPLETED
    assert [output["model"] for output in outputs(run)] == ["model"] * 6
    assert Loaded.calls[0] == "setup"
    assert [call for call in Loaded.calls if call.startswith("item")] == [f"item {n}" for n in range(1, 7)]
    assert Loaded.calls.count("setup") == Loaded.calls.count("teardown") == 1
    assert Loaded.calls[-1] == "teardown"


def test_hooks_that_run_once_a_run_go_without_the_set_up(monkeypatch):
    drain(running(Prepared, monkeypatch, items=1))

    assert Loaded.calls.index("prepare") < Loaded.calls.index("setup") < Loaded.calls.index("item 1")
    assert "finish" in Loaded.calls


def test_a_loop_that_is_stopped_takes_down(monkeypatch):
    run = running(Loaded, monkeypatch)

    class Pausing(Loaded):
        def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
            lifecycle.pause(run.pk, actor=OPERATOR)

            everybody_has_heard()
            return super().process(item, ctx)

    monkeypatch.setattr(ScriptedPipeline, "stages", (Pausing,))
    drain(run)

    assert Loaded.calls[-1] == "teardown"
    assert len(outputs(run)) < 6


def test_a_teardown_that_raises_undoes_nothing(monkeypatch, caplog):
    class Raises(Loaded):
        def teardown(self, ctx: StageContext) -> None:
            raise OSError("already gone")

    run = drain(running(Raises, monkeypatch))

    assert (run.lifecycle, run.failed_items) == (Lifecycle.COMPLETED, 0)
    assert "teardown() of Raises failed." in caplog.text


def test_what_prepare_sets_on_the_stage_is_refused_by_name(monkeypatch):
    run = settle(running(Keeps, monkeypatch))

    assert run.lifecycle == Lifecycle.FAILED
    assert "Cannot set self.model in prepare() of Keeps" in run.failure
    assert "Set it in setup(ctx)" in run.failure
