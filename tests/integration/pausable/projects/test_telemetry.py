"""Sentry and OpenTelemetry, their own packages: a park is no error to them, and both halves are of one trace."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign_project import Foreign, hold, release, waiting
from tests.support.workers import REPOSITORY, eventually

pytest.importorskip("sentry_sdk", reason="requirements-dev.txt has it")
pytest.importorskip("opentelemetry.instrumentation.celery", reason="requirements-dev.txt has it")

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]

RUNS_UNDER_A_HOLD = """
import django; django.setup()
from celery.app.trace import build_tracer
from pause_manager.slots import shared_state
from pause_manager.slots.shared_state import HoldSnapshot, ActiveHold
from tests.foreign.celery import app
from tests.foreign.tasks import add

add.bind(app)
import celery.app.trace as trace
add.__trace__ = trace.build_tracer(add.name, add, app=app)
here = shared_state.make()
request = {"id": "refused", "delivery_info": {}, "slackwater": {"queue": "foreign"}, "args": [1, 1], "kwargs": {}}
here.write(HoldSnapshot(everything=ActiveHold("drain", "a hold")), permit_until=float("inf"))
print(add.__trace__("refused", [1, 1], {}, dict(request)).retstr)
here.write(HoldSnapshot(), permit_until=float("inf"))
print(add.__trace__("runs", [1, 1], {}, dict(request, id="runs")).retval)
"""


class Told:
    """What was sent to either of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, chosen: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        return [line for line in lines if chosen(line)]

    def transactions(self, task: str) -> list[dict[str, Any]]:
        name = f"tests.foreign.tasks.{task}"
        return self.lines(lambda line: line["is"] == "transaction" and line["name"] == name)

    def spans(self, task: str, what: str = "end") -> list[dict[str, Any]]:
        name = f"run/tests.foreign.tasks.{task}"
        return self.lines(lambda line: line["from"] == "otel" and line["is"] == what and line["name"] == name)

    def has_open_spans(self) -> bool:
        ends = {line["span"] for line in self.lines(lambda line: line["is"] == "end")}
        return {line["span"] for line in self.lines(lambda line: line["is"] == "start")} != ends


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "telemetry.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("pool", [("-c", "2"), ("-P", "threads", "-c", "2")], ids=["prefork", "threads"])
def test_a_park_is_no_error_and_both_halves_are_of_one_trace(foreign: Foreign, told: Told, pool: tuple[str, ...]):
    watched = {"FOREIGN_TELEMETRY": str(told.path)}
    foreign.worker("one", *pool, **watched)
    parting = foreign.desk(**watched).ask("send", "slow", "a", 3)
    assert eventually(lambda: foreign.notes("piece"))
    hold(mode="quiesce")
    assert waiting(1)
    kept = foreign.desk(**watched).ask("send", "add", 1, 1)
    failing = foreign.desk(**watched).ask("send", "fail", "truly")
    release()
    assert foreign.ended(parting) == ["SUCCESS", "a"]
    assert foreign.ended(kept) == ["SUCCESS", 2]
    assert foreign.ended(failing)[0] == "FAILURE"
    assert eventually(lambda: len(told.transactions("slow")) == 2 and told.transactions("fail"))
    assert eventually(lambda: not told.has_open_spans())

    halves = told.transactions("slow")
    assert [half["status"] for half in halves] == ["ok", "ok"]
    assert {status for half in halves for _, status in half["spans"]} <= {"ok", None}
    (request,) = told.lines(lambda line: line["is"] == "transaction" and line["name"] == "send slow")
    assert {half["trace"] for half in halves} == {request["trace"]}
    assert [one["status"] for one in told.transactions("add")] == ["ok"]

    halves = told.spans("slow")
    assert [half["status"] for half in halves] == ["UNSET", "UNSET"]
    assert [half["events"] for half in halves] == [[], []]
    sent = told.lines(lambda line: line["name"] == "apply_async/tests.foreign.tasks.slow")
    assert {half["trace"] for half in halves} == {line["trace"] for line in sent}

    (error,) = told.lines(lambda line: line["is"] == "error")
    assert error["name"] == "tests.foreign.tasks.fail", "what fails is an error as ever"
    assert [one["status"] for one in told.transactions("fail")] == ["internal_error"]
    assert [one["status"] for one in told.spans("fail")] == ["ERROR"]


@pytest.mark.slow
def test_what_a_hold_stops_before_its_first_line_opens_nothing(foreign: Foreign, told: Told):
    env = {**foreign.env, "FOREIGN_TELEMETRY": str(told.path)}

    ran = subprocess.run(
        [sys.executable, "-c", RUNS_UNDER_A_HOLD], env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )

    assert ran.stdout.splitlines() == ["('slackwater:refused',)", "2"], ran.stderr
    assert len(told.transactions("add")) == len(told.spans("add")) == 1, "of the one that ran"
    assert not told.has_open_spans()
