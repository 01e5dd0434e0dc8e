"""Real workers that are killed while they work on items that have a price: each item is charged once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from automation import dispatch
from automation.contrib.credits import settling, starting
from automation.contrib.credits.models import Line
from automation.models import AutomationRun, Lifecycle
from automation.runs import lifecycle, reconciler
from pause_manager.models import Hold
from tests.support.credit_books import CREDIT, assert_sound, balance, charged, funded_site, price_of, top_up
from tests.support.factories import OPERATOR, make_run, outputs
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

SETTINGS = "tests.support.settings.hasty"


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path, settings: Any) -> Iterator[Workers]:
    running = Workers(tmp_path, {**process_env, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": SETTINGS})
    try:
        yield running
    finally:
        running.close()


def mend(run: AutomationRun) -> AutomationRun:
    """What beat and the control worker do."""
    reconciler.reap()
    reconciler.reconcile()
    settling.sweep()
    run.refresh_from_db()
    return run


def has_made(run: AutomationRun, target: int) -> bool:
    return len(outputs(mend(run))) >= target


@pytest.mark.req("A-26")
def test_killed_workers_charge_each_item_once_and_the_run_stops_and_continues_at_its_budget(workers: Workers):
    site = funded_site(80, max_credits_per_run=40 * CREDIT)
    price_of("stamped", "stamped", CREDIT, cost=3)
    parent = workers.start("one", "-Q", "stages", "-c", "2")
    run = make_run("stamped", items=60, site=site)
    dispatch.of_runs([run.pk])

    for target in (5, 15, 25):
        assert eventually(partial(has_made, run, target), 40, every=0.1), workers.said("one")[-3000:]
        children = psutil.Process(parent.pid).children()
        os.kill(children[0].pid, signal.SIGKILL)
    assert eventually(lambda: mend(run).paused_at is not None, 60, every=0.2), workers.said("one")[-3000:]

    assert charged(run) == len(outputs(run)) * CREDIT == 40 * CREDIT
    assert Hold.objects.active().get().kind == Hold.Kind.BUDGET
    starting.change_limit(run, None, actor=OPERATOR)
    lifecycle.resume(run.pk, actor=OPERATOR)
    top_up(site.account, 5, key="meanwhile")
    assert eventually(lambda: mend(run).lifecycle == Lifecycle.COMPLETED, 60, every=0.2), workers.said("one")[-3000:]

    assert len(outputs(run)) == 60
    assert charged(run) == 60 * CREDIT
    keys = Line.objects.filter(kind="charge", book="available").values_list("item_key", flat=True)
    assert len(keys) == len(set(keys)) == 60
    settling.sweep()
    assert balance(site) == 25 * CREDIT
    assert_sound(site)
