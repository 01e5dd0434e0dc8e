"""The Redis clients of ours: whatever the URL says, and whatever Redis does, nobody waits for long."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from backend.embedded import Layout, Redis
from pause_manager.messaging.redis_clients import AsyncSubscriber, Subscriber, bounded_client


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis of this test alone, that it may freeze."""
    layout = Layout(Path(tmp_path_factory.mktemp("r")))
    layout.create()
    server = Redis(layout)
    server.start()
    yield server
    assert server.process is not None
    server.process.send_signal(signal.SIGCONT)
    server.stop()


def freeze(server: Redis) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)


def patient(server: Redis) -> str:
    """A URL that asks to wait for ever."""
    return f"{server.layout.redis_url}&socket_timeout=3600&socket_connect_timeout=3600&health_check_interval=0"


def test_a_frozen_server_is_given_up_whatever_the_url_says(own_redis: Redis):
    client = bounded_client(patient(own_redis), 0.3)
    assert client.ping()
    freeze(own_redis)

    began = time.monotonic()
    with pytest.raises(redis.RedisError):
        client.ping()

    assert time.monotonic() - began < 1.5


@pytest.mark.slow
def test_who_listens_hears_and_notices_a_server_that_freezes(own_redis: Redis):
    with Subscriber(patient(own_redis), "a", "b") as ear, bounded_client(own_redis.layout.redis_url, 1) as client:
        heard = []
        quiet_until = time.monotonic() + 2.5
        while time.monotonic() < quiet_until:
            heard.append(ear.get(0.1))
        client.publish("b", "ring")
        heard += [ear.get(1) for _ in range(3)]
        assert [message["data"] for message in heard if message and message["type"] == "message"] == [b"ring"]

        freeze(own_redis)
        began = time.monotonic()
        with contextlib.suppress(redis.RedisError):
            while time.monotonic() < began + 10:
                ear.get(0.2)

    assert time.monotonic() - began < 4


def test_a_page_hears_and_notices_it_too(own_redis: Redis):
    async def listen() -> tuple[list[bytes], float]:
        async with AsyncSubscriber(patient(own_redis), "a") as ear:
            with bounded_client(own_redis.layout.redis_url, 1) as client:
                client.publish("a", "ring")
            found = [await ear.get() for _ in range(4)]
            freeze(own_redis)
            began = time.monotonic()
            with contextlib.suppress(redis.RedisError):
                while time.monotonic() < began + 10:
                    await ear.get()
            took = time.monotonic() - began
        return [message["data"] for message in found if message and message["type"] == "message"], took

    heard, took = asyncio.run(listen())

    assert heard == [b"ring"]
    assert took < 4
