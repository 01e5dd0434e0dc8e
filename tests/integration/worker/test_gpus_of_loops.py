"""A stage loop knows its GPUs, keeps them until it ends, and sees no other where its stage says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automation import dispatch
from automation.models import AutomationRun, ItemFailure, WorkSlice
from pause_manager import nodes
from tests.integration.worker.test_loops_in_pools import goes_on
from tests.support.factories import make_run, outputs
from tests.support.nvml.driver import Card, Driver
from tests.support.nvml.fixtures import driver, nvml_library  # noqa: F401
from tests.support.settings import gpu_loops
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

A, B = "GPU-aaaa", "GPU-bbbb"
CARDS = {A: [A, 0, "A100", 40_960], B: [B, 1, "H100", 81_920]}


@pytest.fixture
def cards(driver: Driver) -> Driver:  # noqa: F811
    driver.cards = [
        Card(total=40_960, free=40_000, uuid=A, name="A100"),
        Card(total=81_920, free=81_000, uuid=B, name="H100"),
    ]
    driver.write()
    return driver


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path, cards: Driver, settings: Any) -> Iterator[Workers]:
    settings.PAUSE_MANAGER = {**gpu_loops.PAUSE_MANAGER, "runtime_dir": str(tmp_path)}
    env = {**process_env, **cards.env, "DATA_DIR": str(tmp_path)}
    running = Workers(tmp_path, {**env, "DJANGO_SETTINGS_MODULE": "tests.support.settings.gpu_loops"})
    try:
        yield running
    finally:
        running.close()


def start(workers: Workers, *options: str, **env: str) -> None:
    workers.start("one", "-Q", "stages", *options, env=env)
    sampled = eventually(lambda: any(len(state.view.gpus) == 2 for state in nodes.states()), 60)
    assert sampled, workers.said("one")[-3000:]


def run_of(items: int) -> AutomationRun:
    run = make_run("on-cards", items=items)
    dispatch.of_runs([run.pk])
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "pool",
    [pytest.param(("-c", "2"), id="prefork"), pytest.param(("-P", "solo"), id="solo")],
)
def test_each_loop_has_a_card_of_its_own_and_cuda_sees_no_other(workers: Workers, pool: tuple[str, ...]):
    start(workers, *pool)
    run = run_of(8)
    booked: set[tuple[str, ...]] = set()

    def both_at_work() -> bool:
        leased = WorkSlice.objects.leased().values_list("lease_gpus", flat=True)
        booked.update(tuple(gpus) for gpus in leased)
        return len(booked) == 2

    if pool[0] == "-c":
        assert eventually(both_at_work, 60), workers.said("one")[-4000:]
        assert booked == {(A,), (B,)}
    assert goes_on(run), workers.said("one")[-4000:]

    made = outputs(run)
    assert len(made) == 8
    for one in made:
        assert one["gpus"] == [CARDS[one["seen"]]], "what was booked is what the code has, and what CUDA sees"
    by_process: dict[int, set[str]] = {}
    for one in made:
        by_process.setdefault(one["pid"], set()).add(one["seen"])
    assert all(len(seen) == 1 for seen in by_process.values()), "a process never sees two"
    assert not ItemFailure.objects.filter(stage_run__run=run).exists()

    again = run_of(2)
    assert goes_on(again), workers.said("one")[-4000:]
    assert all(one["gpus"] == [CARDS[one["seen"]]] for one in outputs(again))
    if pool[0] == "-c":
        assert {one["pid"] for one in outputs(again)}.isdisjoint(by_process), "a process that has started CUDA ends"


@pytest.mark.slow
def test_a_loop_of_a_worker_with_a_mask_has_a_card_of_the_mask(workers: Workers):
    start(workers, "-c", "2", CUDA_VISIBLE_DEVICES=B)

    run = run_of(4)

    assert goes_on(run), workers.said("one")[-4000:]
    assert {one["seen"] for one in outputs(run)} == {B}


@pytest.mark.slow
def test_threads_give_such_slices_back_and_say_so(workers: Workers):
    start(workers, "-P", "threads", "-c", "2")

    run = run_of(2)

    assert eventually(lambda: "this pool works on many tasks in one process" in workers.said("one"), 60)
    assert outputs(run) == []
    assert eventually(lambda: not WorkSlice.objects.leased().exists(), 10)
    assert not WorkSlice.objects.exclude(crashes=0).exists(), "no item is to blame"
