"""Stage loops in every pool: the supervisor in the worker's main process stops them and keeps their leases."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from django.db import transaction

from automation import dispatch
from automation.models import AutomationRun, Lifecycle, WorkSlice
from automation.runs import lifecycle, reconciler
from pause_manager import conf
from pause_manager.slots import slot_table
from pause_manager.slots.shared_state import SharedState
from tests.support.factories import OPERATOR, events, make_run, outputs
from tests.support.workers import REPOSITORY, Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

POOLS: dict[str, tuple[str, ...]] = {
    "one process": ("-c", "1"),
    "prefork": ("-c", "2"),
    "spawn": ("-c", "2"),
    "autoscale": ("--autoscale", "4,1"),
    "one task a child": ("-c", "2", "--max-tasks-per-child", "1"),
    "threads": ("-P", "threads", "-c", "4"),
    "gevent": ("-P", "gevent", "-c", "10"),
    "solo": ("-P", "solo"),
}
ORDINARY = ("prefork",)
SETTINGS = "tests.support.settings.short_leases"


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path, settings: Any) -> Iterator[Workers]:
    """Workers with the test's pipelines; leases last three seconds, here too."""
    settings.AUTOMATION = {**settings.AUTOMATION, "lease_seconds": 3.0}
    running = Workers(tmp_path, {**process_env, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": SETTINGS})
    try:
        yield running
    finally:
        running.close()


def start(workers: Workers, pool: str) -> psutil.Process:
    env = {}
    if pool == "spawn":
        workers.app = "tests.support.spawned_app"
        # Billiard looks for the file of the settings' top package; ours is a namespace.
        (workers.root / "loops_settings.py").write_text(f"from {SETTINGS} import *\n")
        path = os.pathsep.join([str(workers.root), str(REPOSITORY)])
        env = {"DJANGO_SETTINGS_MODULE": "loops_settings", "PYTHONPATH": path}
    return psutil.Process(workers.start("one", "-Q", "stages", *POOLS[pool], env=env).pid)


def goes_on(run: AutomationRun, seconds: float = 60) -> bool:
    """Whether it completes: what beat and the control worker do is done here, once a second."""

    def is_complete() -> bool:
        reconciler.reap()
        reconciler.reconcile()
        run.refresh_from_db()
        return run.lifecycle == Lifecycle.COMPLETED

    return eventually(is_complete, seconds, every=0.5)


def page_of(main: psutil.Process) -> SharedState:
    """The page of a worker, as one of its processes sees it."""
    at = f"/proc/{main.pid}/fd"
    name = next(name for name in os.listdir(at) if "slackwater-page" in os.readlink(f"{at}/{name}"))
    return SharedState.open(f"{at}/{name}")


def process_at_work(main: psutil.Process) -> psutil.Process:
    """The pool process that has the one slot taken; the main process has other children, such as the probe of GPUs."""
    here = page_of(main)
    (number,) = slot_table.taken(here)
    (child,) = [one for one in main.children() if f"/{one.pid}/" in slot_table.owner_of(here, number)]
    return child


def ears_of_redis() -> int:
    """How many connections hear the doorbell in Redis."""
    with redis.Redis.from_url(conf.settings().redis_url) as client:
        return int(client.pubsub_numsub(conf.settings().channel)[0][1])


def is_at_work(run: AutomationRun) -> bool:
    return WorkSlice.objects.leased().filter(stage_run__run=run).exists()


@pytest.mark.parametrize(
    "pool", [pytest.param(pool, marks=[] if pool in ORDINARY else [pytest.mark.slow]) for pool in POOLS]
)
def test_a_hold_stops_what_is_at_work_and_nothing_is_done_twice(workers: Workers, pool: str):
    # A thread of this process, or of a worker of the test before, may be about to end.
    assert eventually(lambda: ears_of_redis() == 0, 10)
    main = start(workers, pool)
    run = make_run("stamped", items=60)
    dispatch.of_runs([run.pk])
    assert eventually(lambda: len(outputs(run)) >= 5), workers.said("one")[-3000:]

    committed: list[float] = []
    with transaction.atomic():
        transaction.on_commit(lambda: committed.append(time.time()))
        lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    assert eventually(lambda: not is_at_work(run), 10), workers.said("one")[-3000:]

    made = outputs(run)
    assert len(made) < 60
    assert max(output["at"] for output in made) - committed[0] < 0.5
    assert {stop.reason.rpartition(": ")[2] for stop in events(run, "stopped")} == {"lunch"}
    # One that had to connect anew may not have been let go by Redis yet.
    assert eventually(lambda: ears_of_redis() == 1, 5), "one a worker, whatever its pool"
    lifecycle.resume(run.pk, actor=OPERATOR)
    assert goes_on(run), workers.said("one")[-3000:]
    assert sorted(output["n"] for output in outputs(run)) == list(range(1, 61))
    assert not events(run, "worker_lost")
    assert eventually(lambda: not list(slot_table.taken(page_of(main))), 5)
    workers.stop("one")


@pytest.mark.slow
def test_a_stage_that_keeps_the_interpreter_for_longer_than_its_lease_loses_nothing(workers: Workers):
    start(workers, "one process")
    run = make_run("gripping", items=[{"n": 1, "seconds": 8}, {"n": 2, "seconds": 0}])
    dispatch.of_runs([run.pk])
    assert eventually(lambda: is_at_work(run)), workers.said("one")[-3000:]

    assert goes_on(run), workers.said("one")[-3000:]

    assert not events(run, "worker_lost"), "somebody ended the lease of a worker that lives"
    assert [output["attempt"] for output in outputs(run)] == [1, 1]


@pytest.mark.slow
def test_a_cancel_is_heard_at_once(workers: Workers):
    start(workers, "prefork")
    run = make_run("stamped", items=400)
    dispatch.of_runs([run.pk])
    assert eventually(lambda: len(outputs(run)) >= 5), workers.said("one")[-3000:]

    lifecycle.cancel(run.pk, actor=OPERATOR)
    asked = time.time()
    assert eventually(lambda: not is_at_work(run), 10), workers.said("one")[-3000:]

    assert max(output["at"] for output in outputs(run)) - asked < 0.8, "the next heartbeat would be a second later"


@pytest.mark.slow
def test_the_slot_of_a_child_that_was_killed_is_free_again(workers: Workers):
    main = start(workers, "one process")
    run = make_run("stamped", items=60)
    dispatch.of_runs([run.pk])
    assert eventually(lambda: is_at_work(run)), workers.said("one")[-3000:]
    here = page_of(main)
    (number,) = slot_table.taken(here)
    before = slot_table.edition(here, number)[0]

    os.kill(process_at_work(main).pid, signal.SIGKILL)

    assert eventually(lambda: number not in slot_table.taken(here) or slot_table.edition(here, number)[0] > before, 5)
    assert goes_on(run), workers.said("one")[-3000:]
    assert sorted(output["n"] for output in outputs(run)) == list(range(1, 61))
    assert not list(slot_table.taken(here))
    workers.stop("one")


@pytest.mark.slow
def test_a_long_item_that_a_shutdown_had_to_kill_is_not_to_blame(workers: Workers):
    """As by a deploy that does not wait for it: SIGTERM to the worker, SIGKILL to all of it when the grace is over."""
    main = start(workers, "one process")
    run = make_run("gripping", items=[{"n": 1, "seconds": 30}])
    dispatch.of_runs([run.pk])
    assert eventually(lambda: is_at_work(run)), workers.said("one")[-3000:]
    child = process_at_work(main)

    main.terminate()
    excused = WorkSlice.objects.filter(lease_excused=True)
    assert eventually(excused.exists, 8), "it is written down at once: nobody knows how long the grace is"
    child.kill()

    assert eventually(lambda: reconciler.reap() or not is_at_work(run), 20), workers.said("one")[-3000:]
    row = WorkSlice.objects.get(stage_run__run=run)
    assert (row.crashes, row.expiries) == (0, 1)


@pytest.mark.slow
def test_an_item_that_kills_its_process_is_to_blame(workers: Workers):
    main = start(workers, "one process")
    run = make_run("gripping", items=[{"n": 1, "seconds": 30}])
    dispatch.of_runs([run.pk])
    assert eventually(lambda: is_at_work(run)), workers.said("one")[-3000:]

    process_at_work(main).kill()

    assert eventually(lambda: events(run, "worker_lost"), 20), "the worker itself sees it"
    assert [event.details["counts"] for event in events(run, "worker_lost")] == [True]
    lifecycle.cancel(run.pk, actor=OPERATOR)


@pytest.mark.slow
def test_a_process_that_is_stopped_loses_its_lease_and_changes_nothing(workers: Workers):
    main = start(workers, "one process")
    run = make_run("stamped", items=40)
    dispatch.of_runs([run.pk])
    assert eventually(lambda: is_at_work(run)), workers.said("one")[-3000:]
    child = process_at_work(main)

    child.suspend()
    try:

        def is_lost() -> bool:
            reconciler.reap()
            return bool(events(run, "worker_lost"))

        assert eventually(is_lost, 15), "the supervisor keeps a lease for who cannot work"
    finally:
        child.resume()

    assert goes_on(run), workers.said("one")[-3000:]
    assert sorted(output["n"] for output in outputs(run)) == list(range(1, 41))
