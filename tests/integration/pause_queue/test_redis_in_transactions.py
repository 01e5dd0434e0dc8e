"""While something is locked nobody waits for another server: Redis may hang, and a pause must not."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.connection
from django.db import connection, transaction

from automation import dispatch, leases
from automation.dispatch import admission
from automation.runs import lifecycle, reconciler
from backend.embedded import Layout, Redis
from pause_manager import fleet, holds, manager, nodes, tasks
from pause_manager.capacity.needs import Needs
from pause_manager.pause_queue.writer import WithheldDispatch
from tests.support.factories import OPERATOR, make_run, run_loop, stage_of
from tests.support.sampled_fleet import HERE, full, node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("watching")]


@pytest.fixture
def frozen_redis(tmp_path_factory: pytest.TempPathFactory, settings: Any, watching: None) -> Iterator[Redis]:
    """A Redis of this test alone that takes connections and never answers."""
    layout = Layout(Path(tmp_path_factory.mktemp("r")))
    layout.create()
    server = Redis(layout)
    server.start()
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "redis_url": layout.redis_url}
    node(cores=64)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.stop()


@pytest.mark.slow
@pytest.mark.req("M-07")
def test_a_pause_of_the_fleet_waits_for_no_redis_however_many_claim(frozen_redis: Redis):
    run = make_run("few", items=100)
    stage_run = stage_of(run)
    claimed: list[object] = []

    def claim(number: int) -> None:
        room = partial(admission.room_here, needs=Needs(cpu=0.01), pipeline=run.pipeline)
        worker = leases.Worker(f"test/{number}", HERE)
        try:
            claimed.append(leases.claim(stage_run.pk, worker, room=room))
        finally:
            connection.close()

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR, confirmation="pause")
    took = time.monotonic() - began
    for thread in threads:
        thread.join()

    assert took < 2, "with Redis asked under the lock it was sixteen"
    assert len(claimed) == 16


class Told:
    """Where Redis was called while a transaction was open on the caller's connection."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self.calls = 0


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found = Told()
    original = redis.connection.AbstractConnection.send_packed_command

    def send(self: Any, *args: Any, **options: Any) -> Any:
        found.calls += 1
        if connection.in_atomic_block:
            found.places.append("".join(traceback.format_stack(limit=14)))
        return original(self, *args, **options)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", send)
    return found


def test_nothing_is_asked_of_redis_or_the_broker_inside_a_transaction(told: Told):
    node()
    run = make_run("few", items=4)
    dispatch.dispatch()
    run_loop(run)
    full()
    waits = make_run("few", items=4)
    manager.pause_work([WithheldDispatch("import:1", "others.work", "control", Needs(cpu=1))], reason="full")
    reconciler.reconcile()
    node()
    manager.poll()
    holds.place(["queue:stages"], actor=OPERATOR, reason="disks")
    holds.release(["queue:stages"], actor=OPERATOR, reason="done")
    lifecycle.pause(waits.pk, actor=OPERATOR)
    lifecycle.resume(waits.pk, actor=OPERATOR)
    lifecycle.cancel(waits.pk, actor=OPERATOR)
    fleet.pause(mode="quiesce", reason="upgrade", actor=OPERATOR, confirmation="pause")
    tasks.expire_holds()
    tasks.forget_history()

    assert told.calls > 10
    assert told.places == []


def test_what_is_asked_inside_a_transaction_would_be_found(told: Told):
    with transaction.atomic():
        nodes.client().ping()

    assert told.places


def test_an_agent_s_claim_looks_at_its_node_before_it_locks_anything(told: Told):
    node("elsewhere")
    with transaction.atomic():
        view, _ = nodes.lock("elsewhere")
    assert told.places == []
    assert view is not None
    assert nodes.latest("elsewhere") is not None
