"""Durable no-op items with one output each, against plain Celery tasks and Celery's undurable ``starmap``."""

from __future__ import annotations

import os
import time

from benchmarks.harness import Claim, median, system, worker
from benchmarks.site import create_run, start, wait_until_finished

ROUNDS = 3
PEER_TASKS = 6_000
PEER_STARMAP = 200_000
ITEMS = 400_000


def main() -> list[Claim]:
    """Three interleaved rounds on two worker processes; medians."""
    with system():
        from django.conf import settings

        os.environ["PEER_BROKER_URL"] = settings.CELERY_BROKER_URL
        celery, starmap, ours = [], [], []
        for _ in range(ROUNDS):
            celery.append(_peer(PEER_TASKS, chunk=0))
            starmap.append(_peer(PEER_STARMAP, chunk=100))
            ours.append(_ours())
    note = f"{ITEMS:,} items, outputs committed, fsync on, 2 worker processes; items/s"
    return [
        Claim("durable items vs Celery, one task an item", median(ours), median(celery), "items/s", 80, 150, note=note),
        Claim("durable items vs Celery starmap of 100", median(ours), median(starmap), "items/s", 2, 4, note=note),
    ]


def _peer(count: int, chunk: int) -> float:
    import redis
    from django.conf import settings

    from benchmarks.peers import app, noop

    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    with app.producer_pool.acquire(block=True) as producer:
        if chunk:
            for start in range(0, count, chunk):
                noop.starmap([(n,) for n in range(start, start + chunk)]).apply_async(queue="bench", producer=producer)
        else:
            for n in range(count):
                noop.apply_async((n,), queue="bench", producer=producer)
    with worker("benchmarks.peers", "-Q", "warm"):
        started = time.perf_counter()
        app.control.add_consumer("bench", reply=False)
        while client.llen("bench") or client.hlen("unacked"):
            time.sleep(0.005)
        return count / (time.perf_counter() - started)


def _ours() -> float:
    import redis
    from django.conf import settings

    redis.Redis.from_url(settings.REDIS_URL).flushdb()
    run = create_run("bench-noop", start=False, items=ITEMS)
    with worker("backend", "-Q", "stages"):
        start(run)
        return ITEMS / wait_until_finished(run)


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
