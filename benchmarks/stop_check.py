"""What one ``_check_should_stop()`` costs, against asking Redis each time."""

from __future__ import annotations

import timeit

from benchmarks.harness import Claim, system
from benchmarks.site import create_run, start

CALLS = 1_000_000
PEER_CALLS = 5_000


def main() -> list[Claim]:
    """The check of a real stage loop in its slot of the page; the loop of the measurement is taken off."""
    with system():
        import redis
        from django.conf import settings

        from automation.leases.holders import Worker
        from automation.worker.stage_loop import StageLoop

        run = create_run("bench-noop", start=False, items=10)
        start(run)
        loop = StageLoop(run.stages.get(slug="noop"), Worker(owner="benchmark", node="benchmark"))
        empty = min(timeit.repeat("pass", number=CALLS, repeat=5)) / CALLS
        ours = min(timeit.repeat(loop._check_should_stop, number=CALLS, repeat=5)) / CALLS - empty
        client = redis.Redis.from_url(settings.REDIS_URL)
        peer = min(timeit.repeat(lambda: client.get("stop"), number=PEER_CALLS, repeat=3)) / PEER_CALLS
    claim = Claim(
        "_check_should_stop() vs a Redis GET",
        ours * 1e6,
        peer * 1e6,
        "µs",
        0.2,
        0.05,
        of_ratio=False,
        is_larger_better=False,
        note="must and aim are of our own time; best of 5 times a million calls",
    )
    return [claim]


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
