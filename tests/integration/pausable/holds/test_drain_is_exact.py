"""Drained is drained: nothing is at work then, and nothing starts until the release. Who cannot read, waits."""

from __future__ import annotations

import json
import signal
import time

import pytest

from pause_manager import fleet
from pause_manager.fleet import drain
from pause_manager.messaging import broker
from pause_manager.models import PauseQueueEntry
from pause_manager.nodes import members
from tests.support.foreign_project import OPERATOR, QUEUE, Foreign, hold, reconciled, release
from tests.support.proxy import PostgresProxy
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]


def violations(foreign: Foreign, rounds: int) -> list[str]:
    """What was seen under ``rounds`` drains of a busy worker that should not have been."""
    seen = []
    for number in range(rounds):
        for piece in range(12):
            foreign.send("steady", f"{number}-{piece}", 0.2)
        assert eventually(lambda: len(foreign.notes("steady")) > len(foreign.notes("steady-end")))
        hold()
        assert eventually(lambda: drain.measure("drain").is_drained, every=0.01), drain.measure("drain")
        starts, ends = len(foreign.notes("steady")), len(foreign.notes("steady-end"))
        if starts != ends:
            seen.append(f"{starts - ends} at work when drained")
        time.sleep(0.5)
        if len(foreign.notes("steady")) != starts:
            seen.append("started while drained")
        release()
    return seen


@pytest.mark.req("W-19", "W-23", "M-05")
@pytest.mark.parametrize(
    "pool",
    [("-c", "2", "--prefetch-multiplier", "4"), pytest.param(("-P", "threads", "-c", "3"), marks=pytest.mark.slow)],
    ids=["prefork", "threads"],
)
def test_nothing_is_at_work_when_a_drain_is_complete(foreign: Foreign, pool: tuple[str, ...]):
    foreign.worker("one", *pool)

    assert violations(foreign, rounds=5) == []

    assert reconciled(lambda: len(foreign.notes("steady-end")) == 60)
    assert len(foreign.notes("steady")) == 60, "each once"


@pytest.mark.slow
def test_a_worker_that_does_not_say_what_it_has_in_hand_is_seen_through(foreign: Foreign):
    """The guard of the test above, taken out."""
    foreign.worker("one", "-c", "2", "--prefetch-multiplier", "4", "--include", "tests.foreign.unguarded_worker")

    assert violations(foreign, rounds=5)


@pytest.mark.slow
@pytest.mark.req("W-20", "W-49")
def test_a_worker_that_is_cut_off_is_lost_and_the_fleet_not_drained(foreign_behind: Foreign, proxy: PostgresProxy):
    foreign_behind.worker("one", FOREIGN_OPTIONS=json.dumps({"worker_beat_seconds": 0.5, "permit_seconds": 2.0}))
    foreign_behind.send("steady", "long", 8.0)
    assert eventually(lambda: foreign_behind.notes("steady"))
    assert eventually(lambda: drain.measure().running == 1)

    with proxy.stalled():
        version = fleet.pause(mode="drain", reason="upgrade", actor=OPERATOR).version
        assert not drain.measure("drain").is_drained
        assert drain.measure("drain").unreported == 1, "it has not said anything under this pause"
        assert "not said yet" in str(fleet.snapshot()["warnings"])

    assert eventually(lambda: members.of_version(version).acknowledged == 1, 40)
    assert eventually(lambda: drain.measure("drain").is_drained, 40)
    assert foreign_behind.notes("steady-end") == [["steady-end", "long"]]


@pytest.mark.slow
@pytest.mark.req("W-39")
@pytest.mark.parametrize("when_blind", ["stop", "go_on"])
def test_a_blind_worker_does_what_the_project_has_chosen(
    foreign_behind: Foreign, proxy: PostgresProxy, when_blind: str
):
    options = {"permit_seconds": 2.0, "when_blind": when_blind}
    foreign_behind.worker("one", FOREIGN_OPTIONS=json.dumps(options), FOREIGN_ACKS_LATE="0")
    assert foreign_behind.ended(foreign_behind.send("add", 1, 1)) == ["SUCCESS", 2]

    with proxy.away():
        in_hand = foreign_behind.send("add", 2, 2, countdown=5)
        time.sleep(4)
        late = foreign_behind.send("add", 3, 3)
        if when_blind == "go_on":
            assert foreign_behind.ended(late) == ["SUCCESS", 6]
            assert foreign_behind.ended(in_hand) == ["SUCCESS", 4]
        else:
            time.sleep(3)
            assert foreign_behind.notes("add") == [["add", 1, 1]]
            assert broker.queue_depth(QUEUE) == 2, "given back, early acknowledgement or not"

    assert foreign_behind.ended(late) == ["SUCCESS", 6]
    assert foreign_behind.ended(in_hand) == ["SUCCESS", 4]
    assert sorted(foreign_behind.notes("add")) == [["add", 1, 1], ["add", 2, 2], ["add", 3, 3]]


@pytest.mark.slow
def test_a_worker_that_ends_without_its_database_takes_no_rest_with_it(foreign_behind: Foreign, proxy: PostgresProxy):
    foreign_behind.worker("one")
    sent = foreign_behind.send("slow", "a", 6.0)
    assert eventually(lambda: foreign_behind.notes("piece"))
    hold(mode="quiesce")
    assert eventually(lambda: "(quiesce: upgrade)" in foreign_behind.workers.said("one"), every=0.01), "it is heard"
    with proxy.away():
        assert eventually(lambda: foreign_behind.notes("left")), foreign_behind.workers.said("one")[-3000:]
        process = foreign_behind.workers.processes["one"]
        process.send_signal(signal.SIGTERM)
        process.wait(40)
    assert not PauseQueueEntry.objects.waiting().exists(), "it could not be kept"
    assert broker.queue_depth(QUEUE) == 1, "so the broker has it back"

    release()
    foreign_behind.worker("two")

    assert foreign_behind.ended(sent) == ["SUCCESS", "a"]
    assert len(foreign_behind.notes("piece")) == 10, "no piece was lost or done twice"


@pytest.mark.slow
@pytest.mark.req("W-19", "W-23")
def test_two_workers_of_one_name_do_not_hide_each_other(foreign: Foreign):
    """Celery only warns of the name; the one that is idle must not speak for the one that is at work."""
    foreign.worker("one", "-c", "1")
    foreign.send("steady", "long", 15.0)
    assert eventually(lambda: foreign.notes("steady"))
    first = foreign.workers.processes["one"]
    try:
        foreign.workers.start("one", "-Q", QUEUE, "-c", "1", "--logfile", str(foreign.root / "two.log"), wait=False)
        assert eventually(lambda: members.of_version(0).total == 2, 20)

        hold()

        assert eventually(lambda: members.of_version(fleet.state().version).acknowledged == 2)
        assert not drain.measure("drain").is_drained
        assert drain.measure("drain").running == 1
        assert eventually(lambda: "are called one@" in str(fleet.snapshot()["warnings"]), 20)
        assert eventually(lambda: drain.measure("drain").is_drained, 20)
        assert foreign.notes("steady-end") == [["steady-end", "long"]]
    finally:
        first.kill()
        first.wait()


@pytest.mark.slow
@pytest.mark.req("W-20")
def test_a_worker_that_follows_a_dead_one_of_its_name_counts_alone(foreign: Foreign):
    foreign.worker("one", "-c", "1")
    assert eventually(lambda: members.of_version(0).total == 1)
    foreign.workers.kill("one")
    foreign.worker("one", "-c", "1")

    assert eventually(lambda: members.of_version(0).total == 1, 20)
    assert "are called" not in str(fleet.snapshot()["warnings"])


@pytest.mark.slow
@pytest.mark.req("W-19", "W-20")
def test_a_killed_main_process_takes_its_tasks_with_it(foreign: Foreign):
    """The kernel ends the processes of the pool (Celery asks it to), so that what nobody counts is not at work."""
    foreign.worker("one", "-c", "1")
    foreign.send("steady", "long", 4.0)
    assert eventually(lambda: foreign.notes("steady"))
    assert eventually(lambda: drain.measure().running == 1)

    foreign.workers.kill("one")
    hold()

    assert eventually(lambda: drain.measure("drain").is_drained, 20)
    time.sleep(5)
    assert foreign.notes("steady-end") == []
