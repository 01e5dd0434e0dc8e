"""Sampling while Redis or the database is away: it goes on, and the node stays known."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.conf import LazySettings

from backend.embedded import Layout, Redis
from pause_manager import nodes
from pause_manager.models import WorkerNode
from pause_manager.probes.sample import Sample
from tests.integration.nodes.test_sampling import sampled_after, the_node
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load")]


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory, settings: LazySettings) -> Iterator[Redis]:
    """A Redis of this test alone, that it may stop."""
    layout = Layout(Path(tmp_path_factory.mktemp("r")))
    layout.create()
    server = Redis(layout)
    server.start()
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, "redis_url": layout.redis_url}
    yield server
    server.stop()


@pytest.mark.slow
def test_while_redis_is_away_the_node_is_known_from_the_database(workers: Workers, own_redis: Redis) -> None:
    workers.env["REDIS_URL"] = own_redis.layout.redis_url
    workers.start("stages")
    assert sampled_after(0)

    own_redis.stop()
    went = time.time()
    while time.time() < went + 6:
        state = the_node()
        assert state is not None, "never offline"
        time.sleep(0.2)
    assert state is not None
    assert state.sample.view.sampled_at > went + 3, "saved each second now"

    own_redis.start()
    with redis.Redis.from_url(own_redis.layout.redis_url) as client:
        assert eventually(lambda: client.keys("*node:*"), 10), "and live again"


@pytest.mark.slow
def test_while_the_database_is_away_samples_go_on(
    workers: Workers, process_env: dict[str, str], tmp_path: Path
) -> None:
    url = process_env["DATABASE_URL"]
    workers.env["DATABASE_URL"] = url[: url.rindex("/")] + "/nowhere"

    worker = workers.start("stages")

    def told() -> float:
        """When the workers of this container were last told how the machine is."""
        found = [Sample.of_json(file.read_bytes()) for file in tmp_path.glob("run/*/sample.json")]
        return max((sample.view.sampled_at for sample in found), default=0.0)

    assert eventually(told, 10)
    first = told()
    assert eventually(lambda: told() > first + 1)
    with redis.Redis.from_url(workers.env["REDIS_URL"]) as client:
        assert not client.keys("*node:*"), "nobody knows what this machine is called"
    assert worker.poll() is None
    assert workers.said("stages").count("The database is away") == 1
    assert not WorkerNode.objects.exists()


@pytest.mark.slow
def test_a_redis_that_hangs_delays_no_more_than_a_sample(workers: Workers, own_redis: Redis) -> None:
    workers.env["REDIS_URL"] = own_redis.layout.redis_url
    workers.start("stages")
    assert sampled_after(0)
    assert own_redis.process is not None

    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        stopped = time.time()
        assert eventually(lambda: WorkerNode.objects.get().sample["view"]["sampled_at"] > stopped + 3, 10)
        began = time.monotonic()
        [view] = nodes.live_nodes()
        took = time.monotonic() - began
    finally:
        own_redis.process.send_signal(signal.SIGCONT)

    assert view.is_online
    assert took < 3, "a frozen Redis would keep it for ever"
