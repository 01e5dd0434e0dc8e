"""A Redis that turns read-only for a while, or hangs, and a RabbitMQ that restarts: workers live on, tasks run once."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from backend.embedded import Layout, Redis
from tests.support.rabbitmq import RabbitMQ, is_installed
from tests.support.workers import eventually

if TYPE_CHECKING:
    from tests.support.foreign_project import Foreign

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300), pytest.mark.slow]

POOLS = {
    "prefork": ("-c", "2", "--prefetch-multiplier", "4"),
    "threads": ("-P", "threads", "-c", "2", "--prefetch-multiplier", "4"),
    "gevent": ("-P", "gevent", "-c", "2", "--prefetch-multiplier", "4"),
    "solo": ("-P", "solo", "--prefetch-multiplier", "4"),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    """A Redis that is the broker and nothing else: the ledger and the results are elsewhere."""
    server = Redis(Layout(tmp_path / "broker"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def foreign(server: Redis, process_env: dict[str, str], tmp_path: Path) -> Iterator[Foreign]:
    from tests.support.foreign_project import Foreign

    url = server.layout.redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
    project = Foreign(tmp_path, {**process_env, "FOREIGN_BROKER": url})
    try:
        yield project
    finally:
        project.close()


def ran(foreign: Foreign) -> Counter[int]:
    return Counter(note[1] for note in foreign.notes("silent"))


@pytest.mark.parametrize("acks_late", ["0", "1"])
@pytest.mark.parametrize("pool", POOLS)
def test_workers_outlive_a_broker_that_is_read_only_for_a_while(
    foreign: Foreign, server: Redis, pool: str, acks_late: str
):
    sent = list(range(400))
    for number in sent:
        foreign.send("silent", number)
    for name in ("one", "two"):
        foreign.worker(name, *POOLS[pool], FOREIGN_ACKS_LATE=acks_late, FOREIGN_VISIBILITY="15")
    assert eventually(lambda: len(ran(foreign)) >= 20)

    with redis.Redis.from_url(server.layout.redis_url) as broker:
        broker.execute_command("REPLICAOF", "127.0.0.1", "1")
        time.sleep(8)
        broker.execute_command("REPLICAOF", "NO", "ONE")

    assert eventually(lambda: sorted(ran(foreign)) == sent, 90), set(sent) - ran(foreign).keys()
    assert [worker.poll() for worker in foreign.workers.processes.values()] == [None, None]
    if acks_late == "0":
        assert set(ran(foreign).values()) == {1}
    for number in (1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009):
        foreign.send("silent", number)
    assert eventually(lambda: ran(foreign).keys() >= set(range(1000, 1010)), 30)


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_workers_outlive_a_broker_that_hangs(foreign: Foreign, server: Redis, pool: str):
    foreign.worker("one", *POOLS[pool])
    for number in range(100):
        foreign.send("silent", number)
    assert eventually(lambda: len(ran(foreign)) >= 5)

    with redis.Redis.from_url(server.layout.redis_url) as broker:
        pid = int(broker.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    time.sleep(10)
    os.kill(pid, signal.SIGCONT)

    assert eventually(lambda: sorted(ran(foreign)) == list(range(100)), 60)
    assert foreign.workers.processes["one"].poll() is None
    assert set(ran(foreign).values()) == {1}


@pytest.mark.skipif(not is_installed(), reason="no RabbitMQ is installed (Debian: rabbitmq-server)")
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_workers_outlive_a_rabbitmq_that_restarts(process_env: dict[str, str], tmp_path: Path, pool: str):
    from tests.support.foreign_project import Foreign

    rabbitmq = RabbitMQ(tmp_path / "rabbitmq")
    foreign = Foreign(tmp_path, {**process_env, "FOREIGN_BROKER": rabbitmq.url})
    try:
        rabbitmq.start()
        foreign.worker("one", *POOLS[pool], FOREIGN_ACKS_LATE="1")
        for number in range(200):
            foreign.send("silent", number)
        assert eventually(lambda: len(ran(foreign)) >= 5)

        rabbitmq.shut_down()
        time.sleep(3)
        rabbitmq.start()

        assert eventually(lambda: sorted(ran(foreign)) == list(range(200)), 60)
        assert foreign.workers.processes["one"].poll() is None
    finally:
        foreign.close()
        rabbitmq.stop()
