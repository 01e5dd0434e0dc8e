"""What follows a commit cannot be stopped by what went before it."""

from __future__ import annotations

import ast
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import transaction

from automation.models import Lifecycle
from automation.runs import lifecycle
from pause_manager import conf, holds, workloads
from pause_manager.messaging import notifier
from tests.support.factories import OPERATOR, make_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ears() -> Iterator[Any]:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client, client.pubsub() as heard:
        heard.subscribe(conf.settings().channel)
        assert heard.get_message(timeout=2)["type"] == "subscribe"
        yield heard


def rung(ears: Any) -> list[str]:
    message = ears.get_message(timeout=2)
    return [] if message is None else list(json.loads(message["data"]))


def test_the_doorbell_rings_although_another_s_callback_raises(ears: Any, caplog: pytest.LogCaptureFixture):
    class Planted(workloads.Workload):
        def hold_changed(self, change: workloads.HoldChange) -> None:
            transaction.on_commit(fail, robust=True)

    def fail() -> None:
        raise RuntimeError("planted")

    planted = workloads.register(Planted())
    try:
        with caplog.at_level(logging.ERROR):
            holds.place(["queue:a"], actor=OPERATOR, reason="disks")
    finally:
        workloads.unregister(planted)

    assert rung(ears) == ["queue:a"]
    assert "planted" in caplog.text, "who reads the log learns of it"


def test_a_bell_that_cannot_be_rung_stops_nothing_that_follows_and_fails_no_caller():
    """Not even something that no message can say."""
    followed = []

    with transaction.atomic():
        notifier.publish_on_commit(object())  # type: ignore[arg-type]
        transaction.on_commit(lambda: followed.append(True))

    assert followed == [True]


def test_a_release_that_is_committed_is_no_error_although_nothing_can_be_sent(settings: Any):
    run = make_run(items=2)
    lifecycle.pause(run.pk, actor=OPERATOR)
    settings.AUTOMATION = {**settings.AUTOMATION, "max_loops": "three"}

    lifecycle.resume(run.pk, actor=OPERATOR)

    run.refresh_from_db()
    assert (run.paused_at, run.lifecycle) == (None, Lifecycle.RUNNING)


@pytest.mark.slow
def test_every_callback_of_ours_is_robust():
    found = []
    for app in ("pause_manager", "automation", "backend"):
        for path in (Path(__file__).parents[3] / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "transaction.on_commit":
                    is_robust = any(keyword.arg == "robust" for keyword in node.keywords)
                    found += [] if is_robust else [f"{path}:{node.lineno}"]

    assert found == []
