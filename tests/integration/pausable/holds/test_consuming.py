"""What a worker consumes is what is wanted, however holds, operators and lost connections follow each other."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import redis

from pause_manager import fleet
from pause_manager.models import FleetWorker
from tests.support.foreign_project import QUEUE, Foreign, hold, release
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

POOLS = {
    "prefork": ("-c", "2"),
    "threads": ("-P", "threads", "-c", "2"),
    "gevent": ("-P", "gevent", "-c", "2"),
    "solo": ("-P", "solo"),
}
EVERY_POOL = [
    "prefork",
    pytest.param("threads", marks=pytest.mark.slow),
    pytest.param("gevent", marks=pytest.mark.slow),
    pytest.param("solo", marks=pytest.mark.slow),
]


def cut_connections() -> None:
    """Break what every client but this one has with our Redis, as a broker that restarts does.

    Other tests beside this one have other databases of the same server.
    """
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        ours = store.client_info()
        for client in store.client_list():
            if client["db"] == str(ours["db"]) and client["id"] != str(ours["id"]):
                store.client_kill_filter(_id=client["id"])


def obeys_now() -> bool:
    """Whether every worker acknowledges the present version of the fleet switch."""
    version = fleet.state().version
    return bool(
        eventually(lambda: set(FleetWorker.objects.values_list("acknowledged_version", flat=True)) == {version})
    )


def active(foreign: Foreign) -> list[str]:
    """The queues that worker ``one`` says it consumes."""
    answers: dict[str, list[dict[str, Any]]] = foreign.desk().ask("inspect", "active_queues")
    return sorted(queue["name"] for queues in answers.values() for queue in queues)


def runs_nothing_while_held(foreign: Foreign, queue: str = QUEUE) -> bool:
    """Whether a task that no hold stops by itself stays in the queue while the fleet is held."""
    before = len(foreign.notes("unheld"))
    hold()
    assert obeys_now()
    foreign.send("unheld", queue=queue)
    time.sleep(3)
    is_quiet = len(foreign.notes("unheld")) == before
    release()
    assert eventually(lambda: len(foreign.notes("unheld")) == before + 1, 20), foreign.workers.said("one")[-3000:]
    return is_quiet


@pytest.mark.slow
def test_a_solo_worker_keeps_its_queue_through_a_hold_that_ends_while_it_is_busy(foreign: Foreign):
    foreign.worker("one", *POOLS["solo"])
    foreign.send("steady", "long", 6.0)
    assert eventually(lambda: foreign.notes("steady"))

    hold()
    time.sleep(1)
    release()

    assert eventually(lambda: foreign.notes("steady-end"))
    assert obeys_now()
    assert active(foreign) == [QUEUE]
    assert runs_nothing_while_held(foreign)
    cut_connections()
    time.sleep(3)
    assert foreign.ended(foreign.send("add", 1, 2)) == ["SUCCESS", 3]


@pytest.mark.slow
@pytest.mark.parametrize("pool", EVERY_POOL[:3])
def test_an_idle_worker_keeps_its_queue_through_short_holds(foreign: Foreign, pool: str):
    foreign.worker("one", *POOLS[pool])

    for _ in range(3):
        hold()
        time.sleep(0.4)
        release()
        time.sleep(0.1)

    assert obeys_now()
    assert active(foreign) == [QUEUE]
    assert runs_nothing_while_held(foreign)


@pytest.mark.slow
@pytest.mark.parametrize("pool", EVERY_POOL)
def test_after_lost_connections_it_consumes_what_is_not_held_and_nothing_else(foreign: Foreign, pool: str):
    foreign.worker("one", *POOLS[pool])
    hold()
    assert obeys_now()

    cut_connections()
    time.sleep(3)
    foreign.send("unheld")
    time.sleep(3)
    assert foreign.notes("unheld") == []

    release()
    assert eventually(lambda: foreign.notes("unheld"), 20)
    cut_connections()
    time.sleep(3)
    assert foreign.ended(foreign.send("add", 1, 2)) == ["SUCCESS", 3]
    assert foreign.workers.processes["one"].poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("pool", EVERY_POOL)
def test_a_queue_added_while_all_is_held_is_consumed_after_the_release(foreign: Foreign, pool: str):
    foreign.worker("one", *POOLS[pool])
    hold()
    assert obeys_now()

    foreign.desk().ask("control", "add_consumer", "extra")
    assert eventually(lambda: FleetWorker.objects.get().serves == ["extra", QUEUE]), "it is one of the worker's queues"
    assert obeys_now()
    foreign.send("unheld", queue="extra")
    time.sleep(3)
    assert foreign.notes("unheld") == []
    assert active(foreign) == []

    release()
    assert eventually(lambda: foreign.notes("unheld"), 20)
    assert active(foreign) == ["extra", QUEUE]
    assert runs_nothing_while_held(foreign, "extra")


@pytest.mark.slow
def test_a_queue_that_is_held_when_an_operator_adds_it_is_not_consumed(foreign: Foreign):
    foreign.worker("one")
    hold("queue:extra")
    foreign.send("unheld", queue="extra")

    foreign.desk().ask("control", "add_consumer", "extra")
    assert eventually(lambda: FleetWorker.objects.get().serves == ["extra", QUEUE])
    time.sleep(3)
    assert foreign.notes("unheld") == []
    assert active(foreign) == [QUEUE]

    release("queue:extra")
    assert eventually(lambda: foreign.notes("unheld"), 20)


@pytest.mark.slow
@pytest.mark.parametrize("pool", EVERY_POOL)
def test_a_queue_cancelled_while_it_is_held_stays_cancelled(foreign: Foreign, pool: str):
    foreign.workers.start("one", "-Q", f"{QUEUE},extra", *POOLS[pool])
    hold()
    assert obeys_now()

    foreign.desk().ask("control", "cancel_consumer", "extra")
    assert eventually(lambda: FleetWorker.objects.get().serves == [QUEUE])
    release()
    foreign.send("unheld", queue="extra")
    assert foreign.ended(foreign.send("add", 1, 2)) == ["SUCCESS", 3]

    cut_connections()
    time.sleep(3)
    assert foreign.ended(foreign.send("add", 1, 2)) == ["SUCCESS", 3]
    assert foreign.notes("unheld") == []
    assert active(foreign) == [QUEUE]

    foreign.desk().ask("control", "add_consumer", "extra")
    assert eventually(lambda: foreign.notes("unheld"), 20), "an operator may think better of it"
