"""A worker stops taking messages and takes them again, loses none, and never stops its control queue."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pause_manager.worker.consumption import Consumption
from tests.integration.nodes.test_sampling import sampled_after, send
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load")]

POOLS = ("prefork", *(pytest.param(pool, marks=pytest.mark.slow) for pool in ("gevent", "threads", "solo")))


class Obedient:
    """A worker that reads from a file whether it consumes."""

    def __init__(self, workers: Workers, root: Path, pool: str, queues: str) -> None:
        self.order, self.noted = root / "consume", root / "noted"
        self.order.write_text("start")
        options = ["-Q", queues, "-P", pool, *(["-c", "2"] if pool != "solo" else [])]
        include = ["--include", "tests.support.switched_consumption"]
        self.process = workers.start("stages", *options, *include, env={"CONSUME": str(self.order)})

    def tell(self, order: str) -> None:
        self.order.write_text(order)

    def is_stopped(self, queues: str) -> bool:
        answer = self.order.with_suffix(".stopped")
        return answer.exists() and answer.read_text() == queues

    def note(self, number: int, queue: str = "stages") -> None:
        send("tests.note", str(self.noted), number, queue=queue)

    def done(self) -> list[int]:
        return [int(line) for line in self.noted.read_text().split()] if self.noted.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS)
def test_stopped_queues_keep_their_messages_and_none_is_lost(workers: Workers, tmp_path: Path, pool: str) -> None:
    worker = Obedient(workers, tmp_path, pool, "stages,control")
    worker.note(0)
    assert eventually(lambda: worker.done() == [0])

    worker.tell("stop")
    assert eventually(lambda: "Canceling queue stages" in workers.said("stages"), 10)
    time.sleep(0.5)
    for number in range(1, 31):
        worker.note(number)
    worker.note(100, queue="control")

    assert eventually(lambda: 100 in worker.done(), 10), "the control queue is served"
    time.sleep(1.5)
    assert worker.done() == [0, 100]
    assert worker.is_stopped("stages")

    worker.tell("start")
    assert eventually(lambda: len(worker.done()) == 32, 20), worker.done()
    time.sleep(0.5)
    assert sorted(worker.done()) == [*range(31), 100], "each once"
    assert sampled_after(time.time() - 2), f"samples go on in a {pool} pool"
    assert worker.process.poll() is None


@pytest.mark.slow
def test_no_message_is_lost_or_doubled_while_it_goes_on_and_off(workers: Workers, tmp_path: Path) -> None:
    worker = Obedient(workers, tmp_path, "prefork", "stages")
    sent = 0
    for turn in range(6):
        worker.tell("stop" if turn % 2 == 0 else "start")
        end = time.monotonic() + 1.3
        while time.monotonic() < end:
            worker.note(sent)
            sent += 1
            time.sleep(0.02)
    worker.tell("start")

    assert eventually(lambda: len(worker.done()) >= sent, 20)
    time.sleep(0.5)
    assert sorted(worker.done()) == list(range(sent))


def test_without_a_worker_there_is_nothing_to_stop() -> None:
    consumption = Consumption()

    assert (consumption.queues, consumption.stop(), consumption.start(["stages"])) == (frozenset(),) * 3
