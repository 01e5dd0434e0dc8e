"""The web process dies in the middle of requests; a command is carried out whole or not at all, and only once."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.runs import Run

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos")]


def post(fleet: Fleet, run: Run, verb: str, key: str) -> dict[str, Any]:
    token = fleet.ask("token")["token"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{fleet.port}/api/v1/automation/runs/{run.id}/{verb}/",
        data=json.dumps({"reason": key}).encode(),
        headers={"Authorization": f"Token {token}", "Content-Type": "application/json", "Idempotency-Key": key},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=15) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


@pytest.mark.slow
def test_the_web_process_killed_during_requests(fleet: Fleet, seed: int):
    dice = random.Random(seed)
    fleet.start("web")
    run = Run(fleet, items=200)  # it must not end while the web process is started again, twice
    run.wait_until_at("toil")
    post(fleet, run, "pause", "warm")
    post(fleet, run, "resume", "warm-up")

    for number, verb in enumerate(["pause", "resume"] * 2):
        threading.Timer(dice.uniform(0, 0.03), fleet.kill, ["web"]).start()
        with contextlib.suppress(OSError, HTTPException):
            post(fleet, run, verb, f"{verb}-{number}")
        fleet.members["web"].wait(10)
        fleet.start("web")
        assert post(fleet, run, verb, f"{verb}-{number}")["id"] == run.id
        time.sleep(0.2)

    fleet.kill("web")
    assert len(run.events("hold_placed")) == len(run.events("hold_released")) == 3
    run.check_complete()
    assert run.ledger.repeats() == {}
