"""Chords and groups whose members wait for longer than results last; retries and lost workers of what was parked."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import celery
import pytest
import redis
from celery import Celery, chain, chord, group, signals
from django.core.management import call_command

from pause_manager.messaging.headers import groups_of
from pause_manager.models import PauseQueueEntry
from pause_manager.pausable import chord_results, parked_messages
from tests.support.deliveries import delivery
from tests.support.foreign_project import Foreign, hold, release, waiting
from tests.support.workers import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

SHORT = 15


@pytest.mark.slow
def test_a_chord_outlives_its_results_while_a_member_is_parked(foreign: Foreign):
    short = {"FOREIGN_RESULT_EXPIRES": str(SHORT), "FOREIGN_POLL": "2"}
    foreign.worker("one", **short)
    beat = str(foreign.root / "beat")
    foreign.workers.start("control", "-Q", "control", "-c", "1", "-B", "-s", beat, env=short)
    *_, last, body = foreign.desk(**short).ask("chorded", 3, [1, 2, 3])
    foreign.are_taken([last])
    hold()
    assert waiting(1)
    assert eventually(lambda: len(foreign.notes("add")) == 2)

    time.sleep(2 * SHORT)
    release()

    assert foreign.ended(body) == ["SUCCESS", 12]
    assert foreign.notes("total") == [["total", [2, 4, 6]]]
    assert eventually(lambda: remaining(f"celery-task-meta-{last}") > 0)
    assert remaining(f"celery-task-meta-{body}") <= SHORT, "what nobody waits for expires as ever"


def remaining(key: str) -> int:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as store:
        return int(store.ttl(key))


@pytest.fixture
def app() -> Iterator[Celery]:
    """A Celery app whose results are in the test's Redis and last for 100 s."""
    results = os.environ["REDIS_URL"].replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
    made = Celery("chords", broker="memory://", backend=results, set_as_current=False)
    made.conf.result_expires = 100
    yield made
    backend: Any = made.backend
    backend.client.connection_pool.disconnect()
    made.close()


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chord_results, "_next_look", 0.0)


def park(app: Celery, groups: tuple[str, ...]) -> PauseQueueEntry:
    @app.task(name=f"member-{'-'.join(groups)}", shared=False)
    def member(*args, **kwargs): ...

    embedded = {"chord": {"task": "body", "options": {"group_id": groups[1]} if groups[1:] else {}}}
    one = delivery(member, group=groups[0], embedded=embedded)
    return PauseQueueEntry.objects.get(pk=parked_messages._park(one, None, "a hold"))


def test_what_a_group_has_is_renewed_as_long_as_a_member_waits(app: Celery):
    backend: Any = app.backend
    structure = [["outer", None], [[["inner", None], [[["a", None], None], [["b", None], None]]], [["c", None], None]]]
    backend.client.set(backend.get_key_for_group("outer"), backend.encode({"result": structure}))
    keys = [backend.get_key_for_group("outer", suffix) for suffix in ("", ".j", ".t", ".s", ".d")]
    keys += [backend.get_key_for_task(one) for one in "abc"]
    keys.append(backend.get_key_for_group("mine", ".j"))
    forever, elsewhere = backend.get_key_for_group("mine", ".s"), backend.get_key_for_group("elsewhere", ".j")
    for key in (*keys, elsewhere):
        backend.client.setnx(key, "x")
        backend.client.expire(key, 20)
    backend.client.set(forever, "x")
    backend.client.set(backend.get_key_for_group("broken"), "no structure", ex=20)
    park(app, ("broken",))
    entry = park(app, ("mine", "outer"))
    assert entry.message is not None
    assert entry.message["groups"] == ["mine", "outer"]

    assert chord_results.keep_alive(app) == len(keys) + 1

    assert {backend.client.ttl(key) for key in keys} <= {99, 100}
    assert backend.client.ttl(elsewhere) <= 20
    assert backend.client.ttl(forever) == -1
    assert chord_results.count_expiring(app) == 0
    backend.client.expire(keys[0], 20)
    assert chord_results.keep_alive(app) == 0, "once in a quarter of their time is enough"

    PauseQueueEntry.objects.update(finished_at=entry.paused_at, outcome="sent", confirmed_at=entry.paused_at)
    chord_results._next_look = 0.0
    assert chord_results.keep_alive(app) == 0, "nothing waits any more"


def test_results_that_last_longer_or_for_ever_are_left_alone(app: Celery):
    backend: Any = app.backend
    key = backend.get_key_for_group("mine", ".j")
    park(app, ("mine",))
    backend.client.set(key, "x", ex=500)

    assert chord_results.keep_alive(app) == 0

    assert backend.client.ttl(key) > 400
    app.conf.result_expires = None
    assert chord_results.seconds_of(app) == 0


def test_where_results_cannot_be_kept_people_are_told(app: Celery, monkeypatch: pytest.MonkeyPatch):
    elsewhere = Celery("elsewhere", broker="memory://", backend="cache+memory://", set_as_current=False)
    elsewhere.conf.result_expires = 1000
    entry = park(app, ("mine",))
    (warning,) = chord_results.check(elsewhere)
    assert warning.msg.startswith(
        "The result backend CacheBackend forgets results after 0:16:40, and nothing can renew"
    )
    assert chord_results.count_expiring(elsewhere) == 0
    PauseQueueEntry.objects.update(paused_at=entry.paused_at - timedelta(seconds=800))
    assert chord_results.count_expiring(elsewhere) == 1
    monkeypatch.setattr(chord_results, "current_app", elsewhere)
    said = StringIO()
    call_command("pause_queue", stdout=said)
    at = entry.paused_at + timedelta(seconds=200)
    assert f"its chord's results expire from {at:%Y-%m-%d %H:%M:%S} UTC on" in " ".join(said.getvalue().split())

    assert [one.id for one in chord_results.check(app)] == []
    app.conf.result_expires = 15
    assert [one.id for one in chord_results.check(app)] == ["pause_manager.W025"]
    for harmless in ({"result_backend": "disabled://"}, {"result_expires": None}):
        one = Celery("harmless", broker="memory://", backend="cache+memory://", set_as_current=False)
        one.conf.update(harmless)
        assert chord_results.check(one) == []
        assert chord_results.count_expiring(one) == 0


def test_a_member_knows_every_group_that_waits_for_it():
    app = Celery("sender", broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="one", shared=False)
    def one(*args, **kwargs): ...

    sent: list[tuple[dict[str, Any], Any]] = []

    def keep(body: Any, headers: dict[str, Any], **_: Any) -> None:
        sent.append((headers, body[2]))

    inner = chord([one.si(), chain(one.si(), one.si())], one.si())
    signals.before_task_publish.connect(keep)
    try:
        chord(group([inner, one.si()]), one.si()).apply_async()
    finally:
        signals.before_task_publish.disconnect(keep)

    found = [groups_of(headers, embedded) for headers, embedded in sent]
    outer = {groups for groups in found if len(groups) == 1}
    nested = {groups for groups in found if len(groups) == 2}
    assert len(found) == 3
    assert len(outer) == len(nested) == 1, "two of the inner chord wait for both, the third of the outer for its own"
    assert set(*outer) < set(*nested)


@pytest.mark.slow
@pytest.mark.skipif(celery.VERSION < (5, 7), reason="retry_on_worker_lost came with Celery 5.7")
def test_a_retry_after_a_lost_pool_process_runs(foreign: Foreign):
    foreign.worker("one")
    (sent,) = foreign.keep(("lost_once",))
    release()

    assert foreign.ended(sent, 60) == ["SUCCESS", 1], foreign.workers.said("one")[-3000:]

    assert [note[1] for note in foreign.notes("lost_once")] == [0, 1], "the second is the retry that Celery made"
    assert eventually(lambda: not PauseQueueEntry.objects.unconfirmed().exists())
