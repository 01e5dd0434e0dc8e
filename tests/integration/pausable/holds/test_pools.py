"""Whatever the pool: a held task waits, one at work is told, what goes on runs once, and nobody asks a database."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest
from django.db import connection

from pause_manager.fleet import drain
from pause_manager.messaging import broker
from pause_manager.models import PauseQueueEntry
from tests.support.foreign_project import QUEUE, Foreign, hold, release
from tests.support.proxy import PostgresProxy
from tests.support.workers import REPOSITORY, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

POOLS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "prefork": (("-c", "2"), {}),
    "spawn": (("-c", "2"), {"FOREIGN_START_METHOD": "spawn"}),
    "autoscale": (("--autoscale", "4,1"), {}),
    "one task a child": (("-c", "2", "--max-tasks-per-child", "1"), {}),
    "threads": (("-P", "threads", "-c", "4"), {}),
    "gevent": (("-P", "gevent", "-c", "20"), {}),
    "solo": (("-P", "solo"), {}),
}
_ORDINARY = ("prefork", "gevent")
EVERY_POOL = [pytest.param(name, marks=[] if name in _ORDINARY else [pytest.mark.slow]) for name in POOLS]


def worker(foreign: Foreign, pool: str, **env: str) -> None:
    options, given = POOLS[pool]
    if pool == "spawn":
        # Billiard looks for the file of the settings' top package; ours is a namespace.
        (foreign.root / "foreign_settings.py").write_text("from tests.foreign.settings import *\n")
        path = os.pathsep.join([str(foreign.root), str(REPOSITORY)])
        given = {**given, "DJANGO_SETTINGS_MODULE": "foreign_settings", "PYTHONPATH": path}
    foreign.worker("one", *options, **{**given, **env})


def connections_of(pids: set[int]) -> dict[int, int]:
    """How many connections to the database each process has, by what the kernel says of its sockets."""
    return {pid: len(_sockets(pid) & _of_server()) for pid in pids}


def _sockets(pid: int) -> set[str]:
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return {link for link in found if link.startswith("socket:")}


def _of_server() -> set[str]:
    return set()


@pytest.mark.slow
@pytest.mark.parametrize("pool", EVERY_POOL)
def test_a_hold_keeps_what_has_not_started_and_tells_what_is_at_work(foreign: Foreign, pool: str):
    worker(foreign, pool)
    at_work = foreign.send("slow", "a", 4.0)
    assert eventually(lambda: foreign.notes("piece"))
    ids = [foreign.send("add", number, 1, countdown=2) for number in range(6)]
    if pool != "solo":  # whose loop is at work
        foreign.are_taken(ids)

    hold(mode="quiesce")

    assert eventually(lambda: foreign.notes("left")), foreign.workers.said("one")[-3000:]
    assert eventually(lambda: drain.measure("quiesce").is_drained), drain.measure("quiesce")
    assert foreign.notes("add") == []
    kept = PauseQueueEntry.objects.waiting().count()
    assert kept == (7 if pool != "solo" else kept)

    release()

    assert foreign.ended(at_work) == ["SUCCESS", "a"]
    assert [foreign.ended(one)[1] for one in ids] == [1, 2, 3, 4, 5, 6]
    assert sorted(note[1] for note in foreign.notes("add")) == [0, 1, 2, 3, 4, 5]
    assert len(foreign.notes("piece")) == 10, "no piece was lost or done twice"
    assert not PauseQueueEntry.objects.waiting().exists()


@pytest.mark.slow
def test_a_child_that_is_killed_is_replaced_by_one_that_obeys(foreign: Foreign):
    worker(foreign, "prefork")
    main = psutil.Process(foreign.workers.processes["one"].pid)
    cut_off = foreign.send("steady", "cut off", 60)
    assert eventually(lambda: foreign.notes("steady"))
    for child in main.children():
        os.kill(child.pid, signal.SIGKILL)
    assert foreign.ended(cut_off)[0] == "FAILURE", "as Celery says"
    assert eventually(lambda: len(main.children()) == 2)

    (kept,) = foreign.keep(("add", 1, 2))
    assert eventually(lambda: drain.measure().is_drained), drain.measure()
    release()

    assert foreign.ended(kept) == ["SUCCESS", 3]
    assert foreign.notes("add") == [["add", 1, 2]]


@pytest.mark.slow
def test_a_pool_that_is_started_anew_obeys(foreign: Foreign):
    worker(foreign, "prefork", FOREIGN_POOL_RESTARTS="1")
    before = {child.pid for child in psutil.Process(foreign.workers.processes["one"].pid).children()}
    foreign.desk().ask("restart_pools")
    children = psutil.Process(foreign.workers.processes["one"].pid).children

    def are_new() -> bool:
        foreign.send("silent", 1)  # each process ends after its next task
        return len({child.pid for child in children()} - before) == 2

    assert eventually(are_new, every=0.3), foreign.workers.said("one")[-3000:]
    assert eventually(lambda: broker.queue_depth(QUEUE) == 0 and drain.measure().running == 0)

    (kept,) = foreign.keep(("add", 1, 2))
    release()

    assert foreign.ended(kept) == ["SUCCESS", 3]
    assert foreign.notes("add") == [["add", 1, 2]]


@pytest.mark.parametrize(
    "pool", ["prefork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("threads", "gevent"))]
)
def test_tasks_that_nothing_holds_cost_no_statement(foreign_behind: Foreign, proxy: PostgresProxy, pool: str):
    # One that neither beats nor samples within the test: what is counted is what tasks cost.
    slow = ("worker_beat_seconds", "poll_seconds", "sample_seconds", "tally_seconds")
    worker(foreign_behind, pool, FOREIGN_OPTIONS=json.dumps({**dict.fromkeys(slow, 60.0), "permit_seconds": 300.0}))
    warm = [foreign_behind.send("add", number, 0) for number in range(4)]
    assert all(foreign_behind.ended(one)[0] == "SUCCESS" for one in warm)
    assert eventually(lambda: is_quiet(proxy), 20)

    with proxy.recorded() as statements:
        ids = [foreign_behind.send("add", number, 1) for number in range(100)]
        assert all(foreign_behind.ended(one)[0] == "SUCCESS" for one in ids)

    assert len(foreign_behind.notes("add")) == 104
    # One a second of the worker as a whole, which tells what it has in hand.
    assert {statement.text.split()[0] for statement in statements} <= {"WITH", "SELECT"}
    assert len(statements) <= 30, "a hundred tasks cost a hundred at least if any of them asked"


def is_quiet(proxy: PostgresProxy) -> bool:
    with proxy.recorded() as statements:
        time.sleep(1.5)
    return not statements


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_has_two_connections_however_large_its_pool_is(foreign: Foreign, pool: str):
    options = ("-c", "6") if pool == "prefork" else ("-P", "threads", "-c", "12")
    before = clients()
    # However busy this machine is, there is room for what it declares.
    policy = {"thresholds": {"pause_below": 0.0, "resume_above": 0.0, "cpu_slack_cores": 1000.0}}
    foreign.worker("one", *options, FOREIGN_CAPACITY="1", FOREIGN_OPTIONS=json.dumps({"policy": policy}))
    kept = foreign.keep(("add", 1, 2), ("needy", "one"))
    release()
    ids = [foreign.send("slow", str(number), 1.0) for number in range(12)]

    assert all(foreign.ended(one)[0] == "SUCCESS" for one in [*ids, *kept])
    assert len(clients() - before) <= 2


def clients() -> set[int]:
    """The server processes of all connections to the test's database but our own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return {row[0] for row in cursor.fetchall()}
