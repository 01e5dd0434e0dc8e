"""The doorbell of progress: what rings, how often, and what an absent Redis costs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings
from django.db import transaction

from automation import conf
from automation.reports import progress_notifier
from automation.runs import lifecycle
from tests.support.factories import OPERATOR, make_run, settle

pytestmark = pytest.mark.django_db(transaction=True)


class Ear:
    """Hears the channel of progress."""

    def __init__(self) -> None:
        self._pubsub = redis.Redis.from_url(os.environ["REDIS_URL"]).pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(conf.settings().progress_channel)
        self._pubsub.get_message(timeout=1)

    def heard(self) -> list[list[str]]:
        """The scopes of each ring since the last call."""
        rings = []
        while (message := self._pubsub.get_message(timeout=0.2)) is not None:
            rings.append(json.loads(message["data"]))
        return rings

    def close(self) -> None:
        self._pubsub.close()


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    monkeypatch.setattr(progress_notifier, "_due", {})
    monkeypatch.setattr(progress_notifier.publisher, "away_until", 0.0)
    listener = Ear()
    yield listener
    listener.close()


def test_progress_rings_once_a_second_for_each_run(ear: Ear) -> None:
    for _ in range(1_000):
        progress_notifier.publish_progress("run:a")
        progress_notifier.publish_progress("run:b")
    first = ear.heard()
    time.sleep(progress_notifier.INTERVAL_SECONDS)
    progress_notifier.publish_progress("run:a")

    assert sorted(first) == [["run:a"], ["run:b"]]
    assert ear.heard() == [["run:a"]]


def test_an_event_rings_after_its_commit_and_not_before(ear: Ear) -> None:
    run = make_run()
    ear.heard()

    with transaction.atomic():
        lifecycle.cancel(run.pk, actor=OPERATOR)
        inside = ear.heard()

    assert inside == []
    assert [run.scope] in ear.heard()


def test_working_through_a_run_rings_for_its_progress_and_its_end(ear: Ear) -> None:
    run = make_run(items=5)
    ear.heard()

    settle(run)

    assert [run.scope] in ear.heard()


def test_an_absent_redis_is_asked_once_and_then_left_alone(
    ear: Ear, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(settings.PAUSE_MANAGER, "redis_url", "redis://127.0.0.1:1/0")
    began = time.monotonic()

    for number in range(1_000):
        progress_notifier.publish([f"run:{number}"])

    seconds = time.monotonic() - began
    assert seconds < 5
    assert "Redis is away" in caplog.text
    assert len(caplog.records) == 1


def test_a_pause_returns_at_once_while_redis_is_away(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    monkeypatch.setitem(settings.PAUSE_MANAGER, "redis_url", "redis://127.0.0.1:1/0")
    began = time.monotonic()

    lifecycle.pause(run.pk, actor=OPERATOR)

    seconds = time.monotonic() - began
    assert seconds < 5
