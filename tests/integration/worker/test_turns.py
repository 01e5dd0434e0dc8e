"""More runs than workers: they take turns, and none waits for the end of a long one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automation import dispatch, gate
from automation.models import AutomationRun, Lifecycle, Standstill, WorkItem
from automation.reports.working_time import durations_of
from automation.runs import lifecycle, reconciler
from tests.support.factories import OPERATOR, events, make_run
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

SETTINGS = "tests.support.settings.hasty"


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path, settings: Any) -> Iterator[Workers]:
    running = Workers(tmp_path, {**process_env, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": SETTINGS})
    try:
        yield running
    finally:
        running.close()


def started(items: int = 3_000) -> AutomationRun:
    run = make_run("stamped", items=items)
    dispatch.of_runs([run.pk])
    return run


def made(run: AutomationRun) -> int:
    return WorkItem.objects.filter(made_by__run=run, made_by__position=0).count()


@pytest.mark.slow
def test_five_runs_share_two_workers(workers: Workers):
    workers.start("one", "-Q", "stages", "-c", "2")
    long = started()
    assert eventually(lambda: made(long) > 5), workers.said("one")[-3000:]

    others = [started() for _ in range(4)]
    runs = [long, *others]
    began = time.monotonic()

    def reasons(run: AutomationRun) -> dict[str, str]:
        return {reason.code: reason.sentence for reason in gate.explain(AutomationRun.objects.get(pk=run.pk))}

    told: list[str] = []

    def is_told() -> bool:
        told.extend(one for run in others if (one := reasons(run).get("no_free_worker")))
        return any(one.startswith("It waits for a free worker: 2 of 2 are on run") for one in told)

    assert eventually(is_told, 15), told
    assert eventually(lambda: all(made(run) for run in runs), 20), [made(run) for run in runs]
    first = time.monotonic() - began
    before = [made(run) for run in runs]
    time.sleep(6)
    after = [made(run) for run in runs]

    grown = [late - early for early, late in zip(before, after, strict=True)]
    assert min(grown) > 0, (grown, first)
    assert max(grown) < 6 * min(grown), grown
    assert first < 12
    assert not [event for run in runs for event in events(run, "stopped")], "a turn is no event"
    for run in runs:
        lifecycle.cancel(run.pk, actor=OPERATOR)
    assert eventually(lambda: not AutomationRun.objects.unfinished().exists(), 20)
    taken = durations_of(list(AutomationRun.objects.all()))
    share = sum(one.active for one in taken.values()) / sum(one.total for one in taken.values())
    assert share < 0.75, "while it waits for a worker, the working clock of a run stands"
    assert Standstill.objects.filter(code="no_free_worker").count() <= 2 * len(runs)


@pytest.mark.slow
def test_a_run_that_is_alone_keeps_its_workers(workers: Workers):
    workers.start("one", "-Q", "stages", "-c", "2")

    run = started(items=200)

    def is_complete() -> bool:
        reconciler.reconcile()
        run.refresh_from_db()
        return run.lifecycle == Lifecycle.COMPLETED

    assert eventually(is_complete, 30, every=0.5), workers.said("one")[-3000:]
    assert workers.said("one").count("Loop of") <= 6, "nobody waits, and yet it gave its places up"


@pytest.mark.slow
def test_the_more_urgent_run_comes_first(workers: Workers):
    workers.start("one", "-Q", "stages", "-c", "1")
    ordinary = started()
    assert eventually(lambda: made(ordinary) > 5), workers.said("one")[-3000:]
    late, urgent = started(), started()
    AutomationRun.objects.filter(pk=urgent.pk).update(priority=1)

    assert eventually(lambda: made(urgent) > 0, 15)
    before = made(late), made(ordinary)
    time.sleep(3)

    assert (made(late), made(ordinary)) == before
    for run in (ordinary, late, urgent):
        lifecycle.cancel(run.pk, actor=OPERATOR)
