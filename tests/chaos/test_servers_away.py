"""PostgreSQL and Redis go away, come back, or come back empty while work goes on."""

from __future__ import annotations

import signal
import time

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.runs import SURVIVAL_SECONDS, Run

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]


@pytest.mark.slow
def test_redis_emptied(fleet: Fleet, report):
    run = Run(fleet, items=40)
    run.wait_until_at("fan")

    fleet.flush_redis()
    emptied = time.time()

    run.check_complete()
    report("FLUSHALL: longest silence", run.ledger.longest_silence(emptied))
    assert run.ledger.longest_silence(emptied) < SURVIVAL_SECONDS
    assert run.ledger.repeats() == {}


@pytest.mark.slow
def test_redis_emptied_again_and_again(fleet: Fleet, report):
    """Every message may be lost before it is heard, at every step between stages."""
    run = Run(fleet, items=20)
    began = time.time()

    while run.status == "running" and time.time() - began < 5:
        fleet.flush_redis()
        time.sleep(0.05)

    last = time.time()
    run.check_complete()
    report("FLUSHALL for 5 s: the run was over after", time.time() - last)
    assert run.ledger.longest_silence(last) < SURVIVAL_SECONDS
    assert run.ledger.repeats() == {}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 8, 45])
def test_redis_away(fleet: Fleet, seconds: int, report):
    run = Run(fleet, items=30)
    run.wait_until_at("fan")

    fleet.redis.stop()
    time.sleep(seconds)
    fleet.redis.start()
    back = time.time()

    run.check_complete()
    report(f"Redis away for {seconds} s: longest silence after its return", run.ledger.longest_silence(back))
    assert run.ledger.longest_silence(back) < SURVIVAL_SECONDS
    assert run.ledger.repeats() == {}


@pytest.mark.slow
def test_a_run_created_while_redis_is_away(fleet: Fleet, report):
    fleet.redis.stop()
    run = Run(fleet, items=10)
    time.sleep(1)
    fleet.redis.start()
    back = time.time()

    report("created without Redis: starts after its return", run.goes_on(back - 1, SURVIVAL_SECONDS))
    run.check_complete()


@pytest.mark.slow
def test_a_redis_that_hung_while_loops_ended_is_heard_again(fleet: Fleet, report):
    """Unlike one that is gone it closes no connection: acknowledgements run into their time-outs."""
    run = Run(fleet, items=8, seconds=1)
    run.wait_until_at("toil", after=3)
    redis = fleet.redis.process
    assert redis is not None

    redis.send_signal(signal.SIGSTOP)
    time.sleep(25)
    redis.send_signal(signal.SIGCONT)
    back = time.time()

    run.check_complete()
    assert "Couldn't ack" in fleet.said("stages")
    report("Redis hung: longest silence after its return", run.ledger.longest_silence(back))
    assert run.ledger.longest_silence(back) < SURVIVAL_SECONDS
    assert run.ledger.repeats() == {}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["crash", "restart"])
def test_postgres_restarted(fleet: Fleet, how: str, report):
    run = Run(fleet, items=40)
    run.wait_until_at("toil")

    fleet.crash_postgres() if how == "crash" else fleet.postgres.stop()
    fleet.start_postgres()
    back = time.time()

    run.check_complete()
    report(f"PostgreSQL {how}: longest silence after its return", run.ledger.longest_silence(back))
    report(f"PostgreSQL {how}: items attempted twice", len(run.ledger.repeats()))
    assert run.ledger.longest_silence(back) < SURVIVAL_SECONDS


@pytest.mark.slow
@pytest.mark.req("P-35")
def test_postgres_and_redis_restarted_together(fleet: Fleet, report):
    run = Run(fleet, items=40)
    run.wait_until_at("toil")

    fleet.redis.stop()
    fleet.crash_postgres()
    time.sleep(2)
    fleet.redis.start()
    fleet.start_postgres()
    back = time.time()

    run.check_complete()
    report("both servers restarted: longest silence after their return", run.ledger.longest_silence(back))
    assert run.ledger.longest_silence(back) < SURVIVAL_SECONDS


@pytest.mark.slow
def test_every_message_delivered_twice(fleet: Fleet):
    with fleet.doubled_messages():
        run = Run(fleet, items=40)
        run.check_complete()

    assert run.ledger.repeats() == {}
    heard = fleet.said("stages").count("Task automation.worker.stage_loop")
    assert heard
