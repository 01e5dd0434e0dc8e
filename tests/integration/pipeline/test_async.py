"""Stages whose ``process`` is async: many items at once, and every promise as ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from django.db import connections

from automation.items import store
from automation.models import AutomationRun, ItemChunk, ItemFailure, ItemState, WorkSlice
from automation.pipeline import GroupStage, Payload, Pipeline, Stage, TryLater, register
from automation.pipeline.context import AsyncStageContext
from automation.reports import status
from automation.runs import lifecycle
from automation.testing import run_stage
from tests.support.factories import (
    OPERATOR,
    drain,
    events,
    everybody_has_heard,
    make_run,
    numbers,
    outputs,
    run_loop,
    settle,
)
from tests.support.unfinished_pipelines import Copy

pytestmark = pytest.mark.django_db(transaction=True)

Act = Callable[[int, AsyncStageContext], Any]


class Tale:
    """What the items of a test did, and what it has them do."""

    act: ClassVar[Act | None] = None
    at_work: ClassVar[set[int]] = set()
    most: ClassVar[int] = 0
    calls: ClassVar[list[int]] = []
    loops: ClassVar[set[int]] = set()
    hooks: ClassVar[list[str]] = []


@pytest.fixture(autouse=True)
def tale() -> type[Tale]:
    Tale.act, Tale.most = None, 0
    for each in (Tale.at_work, Tale.calls, Tale.loops, Tale.hooks):
        each.clear()
    return Tale


class Fetch(Stage):
    slug = "fetch"
    title = "Fetch"
    in_flight = 10
    retries = 1
    retry_backoff = 0.0
    max_failures = None
    slice_size = 25

    async def setup(self, ctx: Any) -> None:
        await asyncio.sleep(0)
        Tale.hooks.append("setup")
        Tale.loops.add(id(asyncio.get_running_loop()))

    async def teardown(self, ctx: Any) -> None:
        await asyncio.sleep(0)
        Tale.hooks.append("teardown")

    async def process(self, item: Payload, ctx: Any) -> list[Payload]:
        n = item["n"]
        Tale.calls.append(n)
        Tale.loops.add(id(asyncio.get_running_loop()))
        Tale.at_work.add(n)
        Tale.most = max(Tale.most, len(Tale.at_work))
        try:
            if Tale.act is not None:
                found = Tale.act(n, ctx)
                if found is not None:
                    await found
            await asyncio.sleep(0.01 * (n % 3))
            return [{"n": n, "square": n * n}]
        finally:
            Tale.at_work.discard(n)


class FetchAlone(Fetch):
    slug = "fetch-alone"
    checkpoint_interval = 0


@dataclass
class Squared:
    square: int


class Typed(Stage):
    slug = "typed"
    title = "Typed"
    item_type = Squared

    async def process(self, item: Squared, ctx: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        yield Squared(item.square + 1)


class Pairs(GroupStage):
    slug = "pairs"
    title = "Pairs"
    group_size = 2
    in_flight = 3

    async def process(self, items: Any, ctx: Any) -> AsyncIterator[Payload]:
        await asyncio.sleep(0)
        yield {"sum": sum(item["n"] for item in items)}


class Learn(Stage):
    """Commits each step, a dozen items at once."""

    slug = "learn"
    title = "Learn"
    in_flight = 12

    async def process(self, item: Payload, ctx: Any) -> AsyncIterator[Payload]:
        for step in range((ctx.state or {"step": 0})["step"], 4):
            Tale.calls.append(item["n"] * 10 + step)
            if Tale.act is not None:
                Tale.act(item["n"] * 10 + step, ctx)
            await asyncio.sleep(0.005)
            yield {"n": item["n"], "step": step, "text": "x" * 200}
            await ctx.checkpoint({"step": step + 1})


for slug, stages in {
    "async": (Fetch, Copy),
    "async-alone": (FetchAlone,),
    "async-typed": (Fetch, Typed),
    "async-pairs": (Pairs,),
    "async-learn": (Learn,),
}.items():
    register(type(f"{slug.title()}Run".replace("-", ""), (Pipeline,), {"slug": slug, "title": slug, "stages": stages}))


def squares(count: int, without: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    return [{"n": n, "square": n * n} for n in range(1, count + 1) if n not in without]


def once(at: int, act: Act) -> Act:
    done: list[int] = []

    def meddle(n: int, ctx: AsyncStageContext) -> Any:
        if n != at or done:
            return None
        done.append(n)
        return act(n, ctx)

    return meddle


def pause(run: AutomationRun) -> None:
    lifecycle.pause(run.pk, actor=OPERATOR)
    everybody_has_heard()


def lose(run: AutomationRun) -> None:
    held = WorkSlice.objects.filter(stage_run__run=run, lease_token__isnull=False)
    assert held.update(lease_token=None, leased_at=None, lease_expires_at=None, lease_owner="") == 1


def in_a_thread(do: Callable[..., None], *given: Any) -> Any:
    """The database may not be used on an event loop."""

    def work() -> None:
        try:
            do(*given)
        finally:
            connections.close_all()

    return asyncio.to_thread(work)


@pytest.mark.parametrize("pipeline", ["async", "async-alone"])
def test_items_are_at_work_together_on_one_event_loop_and_come_out_in_order(pipeline):
    run = settle(make_run(pipeline, 60))

    assert run.lifecycle == "completed"
    assert outputs(run, "fetch" if pipeline == "async" else "fetch-alone") == outputs(run) == squares(60)
    assert sorted(Tale.calls) == list(range(1, 61))
    assert Tale.most == 10
    assert Tale.hooks.count("setup") == Tale.hooks.count("teardown") == len(Tale.loops)


def test_it_is_faster_than_one_by_one():
    Tale.act = lambda n, ctx: asyncio.sleep(0.1)
    run = make_run("async", 20)

    began = time.monotonic()
    run_loop(run)

    assert time.monotonic() - began < 1.5
    assert outputs(run, "fetch") == squares(20)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(2), asyncio.CancelledError(), KeyboardInterrupt()])
def test_an_item_that_raises_fails_alone_after_its_tries(error):
    def fail(n: int, ctx: AsyncStageContext) -> None:
        if n in (3, 40):
            raise error

    Tale.act = fail
    run = settle(make_run("async", 50))

    assert outputs(run) == squares(50, without=(3, 40))
    assert [(one.payload["n"], one.attempts) for one in ItemFailure.objects.order_by("key")] == [(3, 2), (40, 2)]


def test_another_try_gets_the_item_as_it_is_stored():
    def fail(n: int, ctx: AsyncStageContext) -> None:
        raise ConnectionError("reset")

    Tale.act = once(5, fail)

    assert outputs(settle(make_run("async", 20))) == squares(20)
    assert not ItemFailure.objects.exists()


def test_an_item_that_takes_too_long_fails_and_the_others_do_not(monkeypatch):
    monkeypatch.setattr(Fetch, "item_timeout", 0.3)
    Tale.act = lambda n, ctx: asyncio.sleep(30) if n == 7 else None
    run = settle(make_run("async", 30))

    assert outputs(run) == squares(30, without=(7,))
    assert ItemFailure.objects.get().error == "TookTooLong: took longer than item_timeout = 0.3 s"
    assert not events(run, "overrun")


def test_a_pause_starts_nothing_more_and_loses_nothing():
    run = make_run("async", 60)
    Tale.act = once(15, lambda n, ctx: in_a_thread(pause, run))

    drain(run)
    assert status.of(AutomationRun.objects.with_leases().get(pk=run.pk)) == "paused"
    assert len(Tale.calls) < 40
    lifecycle.resume(run.pk, actor=OPERATOR)

    assert outputs(settle(run)) == squares(60)
    assert sorted(Tale.calls) == list(range(1, 61))


def test_a_pause_does_not_wait_for_an_item_that_sleeps():
    run = make_run("async", 20)

    async def sleep_on(n: int, ctx: AsyncStageContext) -> None:
        await in_a_thread(pause, run)
        await ctx.sleep(60)

    Tale.act = once(4, sleep_on)
    began = time.monotonic()

    drain(run)
    assert time.monotonic() - began < 10
    lifecycle.resume(run.pk, actor=OPERATOR)

    assert outputs(settle(run)) == squares(20)


def test_a_lost_lease_commits_nothing_and_doubles_nothing():
    run = make_run("async", 60)
    Tale.act = once(12, lambda n, ctx: in_a_thread(lose, run))

    assert outputs(settle(run)) == squares(60)


def test_items_that_wait_let_the_others_go_on():
    def wait(n: int, ctx: AsyncStageContext) -> None:
        if n in (4, 5, 30) and Tale.calls.count(n) == 1:
            raise TryLater(0.01)

    Tale.act = wait
    run = settle(make_run("async", 50))

    assert sorted(payload["n"] for payload in outputs(run)) == list(range(1, 51))
    assert not ItemFailure.objects.exists()
    assert len(events(run, "item_waits")) >= 2


def test_after_a_crash_there_is_one_at_a_time():
    run = make_run("async", 20)
    WorkSlice.objects.filter(stage_run__run=run).update(crashes=1)

    run_loop(run)

    assert Tale.most == 1
    assert outputs(run, "fetch") == squares(20)


def test_declared_items_and_groups():
    run = settle(make_run("async-typed", 5))
    pairs = settle(make_run("async-pairs", 5))

    assert outputs(run) == [{"square": n * n + 1} for n in range(1, 6)]
    assert outputs(pairs) == [{"sum": 3}, {"sum": 7}, {"sum": 5}]


@pytest.mark.parametrize("spill", [300, 4 * 1024 * 1024])
@pytest.mark.parametrize("how", [lose, pause, None])
def test_each_item_goes_on_from_its_own_state(how, spill, monkeypatch):
    monkeypatch.setattr(store, "SPILL_BYTES", spill)
    run = make_run("async-learn", 12)
    threads = []
    if how is not None:

        def meddle(n: int, ctx: AsyncStageContext) -> None:
            threads.append(asyncio.ensure_future(in_a_thread(how, run)))

        Tale.act = once(62, meddle)

    drain(run)
    if how is pause:
        lifecycle.resume(run.pk, actor=OPERATOR)
    run = settle(run)

    made = [(payload["n"], payload["step"]) for payload in outputs(run)]
    assert made == [(n, step) for n in range(1, 13) for step in range(4)]
    assert len(Tale.calls) <= 48 + (12 if how is not None else 0)
    assert not ItemState.objects.exists()
    assert not ItemChunk.objects.exists()


def test_in_one_process_without_servers():
    result = run_stage(Fetch, numbers(3))

    assert result.outputs == squares(3)
    assert Tale.hooks == ["setup", "teardown"]
    half = run_stage(Learn, numbers(2), stop_at_checkpoint=6)
    assert run_stage(Learn, numbers(2), resume=half).outputs == run_stage(Learn, numbers(2)).outputs


async def together(*some: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for each in some:
            group.create_task(each)


def test_a_stop_in_a_task_group_is_no_fault_of_the_item(monkeypatch):
    monkeypatch.setattr(Fetch, "retries", 0)
    run = make_run("async", 20)

    async def sleep_on(n: int, ctx: AsyncStageContext) -> None:
        await in_a_thread(pause, run)
        await together(ctx.sleep(60), asyncio.sleep(60))

    Tale.act = once(4, sleep_on)

    drain(run)
    lifecycle.resume(run.pk, actor=OPERATOR)

    assert outputs(settle(run)) == squares(20)
    assert not ItemFailure.objects.exists()


def test_an_item_may_be_asked_to_wait_in_a_task_group(monkeypatch):
    monkeypatch.setattr(Fetch, "retries", 0)

    async def wait() -> None:
        raise TryLater(0.01)

    Tale.act = once(4, lambda n, ctx: together(wait(), wait()))
    run = settle(make_run("async", 20))

    assert sorted(payload["n"] for payload in outputs(run)) == list(range(1, 21))
    assert not ItemFailure.objects.exists()


def test_what_fails_in_a_task_group_is_told():
    async def fail() -> None:
        raise ConnectionError("reset by peer")

    Tale.act = lambda n, ctx: together(fail(), asyncio.sleep(5)) if n == 4 else None
    settle(make_run("async", 5))

    assert ItemFailure.objects.get().error == "ConnectionError: reset by peer"
