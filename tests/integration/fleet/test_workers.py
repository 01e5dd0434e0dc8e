"""Real workers under the fleet switch and other holds: what they take, what they finish, what they say they obey."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from celery import current_app
from django.db import connection

from automation.models import Lifecycle, WorkSlice
from automation.runs import reconciler
from pause_manager import fleet, holds
from pause_manager.fleet import drain
from pause_manager.messaging import broker
from pause_manager.nodes import members
from tests.support.cut_wire import Wire
from tests.support.factories import OPERATOR, events, make_run, numbers, outputs, stage_of
from tests.support.sampled_fleet import HERE
from tests.support.workers import Workers, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("load")]
QUEUES = ("stages", "other", "control")


class Notes:
    """Tasks that note their number, and the numbers noted."""

    def __init__(self, root: Path) -> None:
        self.file = root / "noted"

    def send(self, number: int, queue: str = "stages") -> None:
        current_app.send_task("tests.note", args=(str(self.file), number), queue=queue)

    def done(self) -> list[int]:
        return sorted(int(line) for line in self.file.read_text().split()) if self.file.exists() else []


def obeyed(version: int, workers: int = 1) -> bool:
    known = members.of_version(version)
    return known.total == known.acknowledged == workers


def last_obeyed(workers: Workers, name: str) -> str:
    """Which queues the worker last said that it stops."""
    return workers.said(name).rpartition("stopped are ")[2].partition(".\n")[0]


def pause(mode: str = "drain", reason: str = "upgrade") -> int:
    return fleet.pause(mode=mode, reason=reason, actor=OPERATOR).version


def resume(**options) -> int:
    return fleet.resume(reason="done", actor=OPERATOR, **options).version


def drawn() -> int:
    """A fencing token, to tell whether any lease was granted since the last one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('automation_lease_token')")
        return int(cursor.fetchone()[0])


@pytest.mark.slow
@pytest.mark.req("W-23")
@pytest.mark.req("W-40")
@pytest.mark.req("W-49")
def test_held_queues_keep_their_messages_whoever_holds_them(workers: Workers, tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    options = ["-Q", ",".join(QUEUES), "-c", "2", "--include", "tests.support.busy_tasks"]
    workers.start("one", *options)
    assert eventually(lambda: obeyed(fleet.state().version))

    version = pause()
    assert eventually(lambda: obeyed(version)), workers.said("one")[-2000:]
    for number, queue in enumerate(QUEUES * 5):
        notes.send(number, queue)
    assert eventually(lambda: len(notes.done()) == 5)

    workers.start("two", *options)
    assert eventually(lambda: obeyed(version, workers=2))
    time.sleep(1)
    assert notes.done() == [2, 5, 8, 11, 14], "the control queue alone is served"

    holds.place(["queue:other"], actor=OPERATOR)
    resumed = resume()
    assert eventually(lambda: obeyed(resumed, workers=2))
    assert eventually(lambda: len(notes.done()) == 10)
    time.sleep(0.5)
    assert notes.done() == [number for number, queue in enumerate(QUEUES * 5) if queue != "other"]

    holds.place([f"node:{HERE}"], actor=OPERATOR)
    holds.release(["queue:other"], actor=OPERATOR)
    assert eventually(lambda: all(last_obeyed(workers, name) == "other, stages" for name in ("one", "two")))
    time.sleep(1)  # it is said when it is handed to the worker's loop
    notes.send(100)
    time.sleep(1)
    assert len(notes.done()) == 10, "one reason is gone, the other holds"
    holds.release([f"node:{HERE}"], actor=OPERATOR)
    assert eventually(lambda: len(notes.done()) == 16)
    assert notes.done() == [*range(15), 100], "each once"

    workers.stop("two")
    assert eventually(lambda: members.of_version(0).total == 1), "who ends is not waited for"


@pytest.mark.slow
@pytest.mark.req("W-21")
@pytest.mark.req("W-39")
@pytest.mark.req("W-40")
def test_a_worker_that_is_cut_off_keeps_what_it_knew_and_lags_until_it_is_back(
    workers: Workers, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database, broker = urlsplit(workers.env["DATABASE_URL"]), urlsplit(workers.env["REDIS_URL"])
    if broker.scheme != "unix" or not unquote(database.hostname or "").startswith("/"):
        pytest.skip("the servers are elsewhere: there is no wire to cut")
    port = ".s.PGSQL.5432"
    wires = [
        Wire(tmp_path / port, f"{unquote(database.hostname or '')}/{port}"),
        Wire(tmp_path / "redis", unquote(broker.path)),
    ]
    for wire in wires:
        request.addfinalizer(wire.cut)
    there = quote(str(tmp_path), safe="")
    env = {
        "DATABASE_URL": database._replace(netloc=f"{database.username}@{there}").geturl(),
        "REDIS_URL": f"unix://{tmp_path}/redis?db={parse_qs(broker.query)['db'][0]}",
    }
    notes = Notes(tmp_path)
    paused = pause()
    notes.send(1)
    wires[0].cut()
    workers.start("stages", "-Q", "stages", "-c", "1", "--include", "tests.support.busy_tasks", env=env)
    time.sleep(1)
    assert notes.done() == [], "what it cannot read counts as held"
    wires[0].mend()
    assert eventually(lambda: obeyed(paused))

    for wire in wires:
        wire.cut()
    assert eventually(lambda: members.of_version(paused).lost)
    version = pause(reason="another")
    assert not obeyed(version)
    for wire in wires:
        wire.mend()

    assert eventually(lambda: obeyed(version), 40), workers.said("stages")[-3000:]
    time.sleep(1)
    assert notes.done() == [], "back, and still paused"
    resume()
    assert eventually(lambda: notes.done() == [1], 30)


def work_until(run, is_over, seconds: float = 60) -> bool:
    """Reconcile, as beat would, until ``is_over``."""

    def look() -> bool:
        reconciler.reconcile()
        return bool(is_over())

    return bool(eventually(look, seconds, every=0.3))


@pytest.mark.req("W-23")
@pytest.mark.req("W-24")
@pytest.mark.req("W-26")
@pytest.mark.req("W-28")
@pytest.mark.req("W-45")
def test_eight_loops_drain_survive_the_death_of_everything_quiesce_and_finish(workers: Workers) -> None:
    run = make_run("slow", items=numbers(200), params={"seconds": 0.1})
    slices = WorkSlice.objects.filter(stage_run=stage_of(run))
    options = ["-Q", "stages", "-c", "8", "--include", "tests.support.pipelines"]
    workers.start("stages", *options)
    at_work = min(8, slices.count())
    assert eventually(lambda: slices.leased().count() == at_work)

    version = pause("quiesce")
    token = drawn()
    assert eventually(lambda: drain.measure("quiesce").is_drained)
    assert eventually(lambda: obeyed(version))
    assert drawn() == token + 1, "no lease was granted after the commit"
    done = len(outputs(run))
    assert 0 < done < 200
    assert {event.details["code"] for event in events(run, "stopped")} == {"held"}

    workers.kill("stages")
    workers.start("stages", *options)
    assert eventually(lambda: obeyed(version))
    reconciler.reap()
    reconciler.reconcile()
    time.sleep(1)
    assert (drawn(), len(outputs(run))) == (token + 2, done), "still drained"

    resume()
    assert work_until(run, lambda: slices.leased().count() == at_work)
    pause("drain")
    token = drawn()
    leased = set(slices.leased().values_list("pk", flat=True))
    assert leased
    blockers = drain.measure("drain").blockers
    assert {blocker.ref for blocker in blockers} == {run.scope}
    assert eventually(lambda: drain.measure("drain").is_drained, 60)
    assert drawn() == token + 1
    assert not slices.filter(pk__in=leased, finished_at__isnull=True).exists(), "what was leased went on to its end"

    resume()
    assert work_until(run, lambda: run.stages.filter(lifecycle=Lifecycle.RUNNING).count() == 0)
    assert [output["n"] for output in outputs(run)] == list(range(1, 201))
    assert eventually(lambda: broker.queue_depth("stages") == 0), "late messages end at once"


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_every_pool_obeys(workers: Workers, tmp_path: Path, pool: str) -> None:
    notes = Notes(tmp_path)
    options = ["-Q", "stages", "-P", pool, *(["-c", "2"] if pool != "solo" else [])]
    workers.start("stages", *options, "--include", "tests.support.busy_tasks")
    assert eventually(lambda: obeyed(fleet.state().version)), workers.said("stages")[-2000:]
    version = pause()
    assert eventually(lambda: obeyed(version)), workers.said("stages")[-2000:]

    notes.send(1)
    time.sleep(1)
    assert notes.done() == []
    resume()
    assert eventually(lambda: notes.done() == [1])
