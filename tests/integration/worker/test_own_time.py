"""An item is charged with its own time alone: not with that of others, nor with that of the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pytest
from django.db import transaction

from automation import leases
from automation.models import ItemFailure, WorkItem, WorkSlice
from automation.pipeline import Payload, Pipeline, Stage, TryLater, register
from automation.pipeline.context import StageContext
from automation.runs import lifecycle
from pause_manager.slots import slot_table
from pause_manager.slots.standalone import standalone
from tests.integration.pipeline.test_async import in_a_thread, pause
from tests.support.factories import OPERATOR, drain, events, make_run, outputs, run_loop, settle
from tests.support.pipelines import wait_until
from tests.support.race import in_thread

pytestmark = pytest.mark.django_db(transaction=True)


class Tale:
    """What the items of a test do, and what was done."""

    act: ClassVar[Callable[[int, Any], Any] | None] = None
    calls: ClassVar[list[int]] = []


@pytest.fixture(autouse=True)
def _tale() -> None:
    Tale.act = None
    Tale.calls.clear()


class Timed(Stage):
    slug = "timed"
    title = "Timed"
    max_failures = None
    slice_size = 25

    def process(self, item: Payload, ctx: StageContext) -> Iterable[Payload]:
        Tale.calls.append(item["n"])
        if Tale.act is not None:
            Tale.act(item["n"], ctx)
        return [item]


class TimedAsync(Timed):
    slug = "timed-async"
    in_flight = 3

    async def process(self, item: Payload, ctx: Any) -> Iterable[Payload]:  # type: ignore[override]
        Tale.calls.append(item["n"])
        if Tale.act is not None and (found := Tale.act(item["n"], ctx)) is not None:
            await found
        return [item]


for stage in (Timed, TimedAsync):
    register(type(f"{stage.__name__}Run", (Pipeline,), {"slug": stage.slug, "title": stage.title, "stages": (stage,)}))


def seen() -> slot_table.CurrentWork | None:
    """What the supervisor sees of the only loop."""
    assert standalone.state is not None
    (number,) = slot_table.taken(standalone.state)
    return slot_table.at_work(standalone.state, number)


def age() -> float:
    """For how long the supervisor thinks that the item is at work."""
    work = seen()
    assert work is not None
    return work.seconds


def test_an_item_is_not_charged_with_the_time_of_one_before_it_that_waits():
    run = make_run("timed", items=2)
    ages: dict[int, float] = {}

    def act(n: int, ctx: StageContext) -> None:
        ages[n] = age()
        if n == 1 and Tale.calls.count(1) == 1:
            time.sleep(0.5)
            raise TryLater(0.01)

    Tale.act = act
    run_loop(run)

    assert ages[2] < 0.3


def test_an_item_is_not_charged_with_the_time_of_a_checkpoint():
    run = make_run("timed", items=3)
    ages: dict[int, float] = {}

    def act(n: int, ctx: StageContext) -> None:
        ages[n] = age()
        time.sleep(0.15)

    Tale.act = act
    with transaction.atomic():
        WorkItem.objects.create(made_by=run.stages.get(position=0), key="000.000", payload={})
        loop = in_thread(lambda: run_loop(run))
        wait_until(lambda: len(Tale.calls) == 2)
        time.sleep(1.0)
        transaction.set_rollback(True)
    loop.join()

    assert len(ages) == 3
    assert ages[3] < 0.3


def test_an_item_is_not_charged_with_the_time_of_its_own_checkpoint():
    run = make_run("timed", items=1)
    ages: list[float] = []

    def act(n: int, ctx: StageContext) -> None:
        time.sleep(0.4)
        ctx.checkpoint({"half": True})
        ages.append(age())

    Tale.act = act
    loop = in_thread(lambda: run_loop(run))
    wait_until(lambda: bool(Tale.calls))
    with transaction.atomic():
        WorkSlice.objects.select_for_update().get()
        time.sleep(1.0)
        assert seen() is None
    loop.join()

    assert ages[0] < 0.3
    assert len(outputs(settle(run))) == 1


def test_a_wait_between_two_tries_is_no_work(monkeypatch):
    for name, value in {"retries": 1, "retry_backoff": 1.0, "retry_jitter": 0.0}.items():
        monkeypatch.setattr(TimedAsync, name, value)
    run = make_run("timed-async", items=1)
    looks: list[slot_table.CurrentWork | None] = []

    def act(n: int, ctx: Any) -> None:
        if Tale.calls.count(n) == 1:
            raise ConnectionError("reset")

    Tale.act = act
    loop = in_thread(lambda: run_loop(run))
    wait_until(lambda: Tale.calls == [1])
    time.sleep(0.3)
    while loop.is_alive() and len(Tale.calls) == 1 and len(looks) < 50:
        looks.append(seen())
        time.sleep(0.01)
    loop.join()

    assert len(looks) > 20
    assert not any(looks)


@pytest.mark.slow
def test_items_in_flight_are_not_charged_with_the_time_of_a_checkpoint(monkeypatch):
    """The event loop stands while the database is away."""
    monkeypatch.setattr(TimedAsync, "item_timeout", 1.5)
    run = make_run("timed-async", items=6)

    def act(n: int, ctx: Any) -> Any:
        return asyncio.sleep(0.2 if n < 3 else 1.0)

    Tale.act = act
    with transaction.atomic():
        WorkItem.objects.create(made_by=run.stages.get(position=0), key="000.000", payload={})
        loop = in_thread(lambda: run_loop(run))
        wait_until(lambda: len(Tale.calls) == 5)
        time.sleep(2.5)
        transaction.set_rollback(True)
    loop.join()

    assert not ItemFailure.objects.exists()
    assert len(outputs(settle(run))) == 6


def test_who_hangs_is_known_after_an_item_that_may_not_wait(monkeypatch):
    monkeypatch.setattr(TimedAsync, "max_waits", 0)
    run = make_run("timed-async", items=6)

    def act(n: int, ctx: Any) -> Any:
        if n == 1:
            raise TryLater(0.01)
        if n == 4:
            return asyncio.sleep(1.0)
        return hang() if n == 5 and Tale.calls.count(5) == 1 else None

    async def hang() -> None:
        await asyncio.sleep(0.3)
        work = seen()
        assert work is not None
        await in_a_thread(take_away, work)

    def take_away(work: slot_table.CurrentWork) -> None:
        held = WorkSlice.objects.leased().get()
        assert held.lease_token is not None
        assert leases.revoke(held.pk, held.lease_token, number=work.number, attempts=work.attempt) == "004"

    Tale.act = act
    run = settle(run)

    assert [failure.payload["n"] for failure in ItemFailure.objects.order_by("key")] == [1, 5]
    assert [output["n"] for output in outputs(run)] == [2, 3, 4, 6]


def test_an_irreversible_item_is_not_cut_by_the_stop_of_another(monkeypatch):
    for name, value in {"retries": 1, "retry_backoff": 2.0, "retry_jitter": 0.0, "irreversible": True}.items():
        monkeypatch.setattr(TimedAsync, name, value)
    run = make_run("timed-async", items=3)
    charged: list[int] = []

    def act(n: int, ctx: Any) -> Any:
        if n == 1:
            if Tale.calls.count(1) == 1:
                raise ConnectionError("reset")
            return None
        return charge(n)

    async def charge(n: int) -> None:
        if n == 2 and Tale.calls.count(2) == 1:
            await asyncio.sleep(0.1)
            await in_a_thread(pause, run)
        await asyncio.sleep(0.5)
        charged.append(n)

    Tale.act = act
    drain(run)
    lifecycle.resume(run.pk, actor=OPERATOR)

    assert [output["n"] for output in outputs(settle(run))] == [1, 2, 3]
    assert sorted(Tale.calls) == [1, 1, 2, 3]
    assert sorted(charged) == [2, 3]


def test_a_stop_after_the_last_item_has_lost_nothing():
    run = make_run("timed-async", items=3)

    def act(n: int, ctx: Any) -> Any:
        return hold() if n == 3 else None

    async def hold() -> None:
        await in_a_thread(pause, run)
        await asyncio.sleep(0.3)

    Tale.act = act
    drain(run)

    assert [output["n"] for output in outputs(run)] == [1, 2, 3]
    assert [event.details["code"] for event in events(run, "stopped")] == ["held"]
