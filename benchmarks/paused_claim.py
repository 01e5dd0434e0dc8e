"""What a pause of the fleet costs those who ask: agents that claim and get nothing, and operators who look.

Requests go through the whole of the real application in this process, as the web server hands them in.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Claim, median, percentile, system
from benchmarks.site import create_run

if TYPE_CHECKING:
    from rest_framework.test import APIClient

OPEN_SLICES = 10_000
ROUNDS = 5
CALLS = 60
CLAIM = "/api/queue/jobs/claim"
SWITCH = "/api/system/worker-pause"


def main() -> list[Claim]:
    """Claims of an agent that there is nothing for, in rounds without and with a pause; the switch with the pause."""
    os.environ["API_RATE_USER"] = "1000000/min"
    with system():
        idle, busy, operator = _caller("idle", "idle"), _caller("bench", "busy"), _operator()
        _times(operator, "get", SWITCH)
        few = _times(operator, "get", SWITCH)
        create_run("bench-agent", start=True, items=OPEN_SLICES)
        held = busy.post(CLAIM, {}).json()["job"]
        heartbeat = f"/api/queue/jobs/{held['id']}/heartbeat", {"token": held["token"]}
        empty, paused, kept, many = [], [], [], []
        _times(idle, "post", CLAIM, {})
        for _ in range(ROUNDS):
            empty += _times(idle, "post", CLAIM, {})
            _toggle(operator, "pause")
            assert busy.post(CLAIM, {}).json()["job"] is None
            paused += _times(busy, "post", CLAIM, {})
            kept += _times(busy, "post", *heartbeat)
            many += _times(operator, "get", SWITCH)
            _toggle(operator, "resume")
    note = f"{OPEN_SLICES:,} open slices, {ROUNDS * CALLS} calls, whole application without the socket"
    added = median(paused) - median(empty)
    return [
        _claim("claim while paused, p99 (peer: unpaused, nothing there)", paused, empty, 200, 50, note),
        Claim(
            "what the guard adds to a claim, median (peer: the claim)",
            *(added, median(empty), "ms", 50, 5),
            of_ratio=False,
            is_larger_better=False,
            note=note,
        ),
        _claim("heartbeat while paused, p99 (peer: unpaused claim)", kept, empty, 200, 50, note),
        _claim("state of the switch, p99 (peer: without slices)", many, few, 200, 50, note),
    ]


def _claim(name: str, ours: list[float], peer: list[float], must: float, aim: float, note: str) -> Claim:
    p99 = percentile(ours, 0.99), percentile(peer, 0.99)
    return Claim(name, *p99, "ms", must, aim, of_ratio=False, is_larger_better=False, note=note)


def _times(client: APIClient, method: str, path: str, body: Any = None) -> list[float]:
    """Milliseconds of each of ``CALLS`` requests, all of which must be answered."""
    spent = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        answer = getattr(client, method)(path, body)
        spent.append((time.perf_counter() - begun) * 1_000)
        if answer.status_code != 200:
            raise RuntimeError(f"expected 200 from {path}, got {answer.status_code}: {answer.content.decode()}")
    return spent


def _toggle(operator: APIClient, action: str) -> None:
    body = {"action": action, "mode": "drain", "reason": "benchmark", "confirmation": "yes", "forceResume": True}
    answer = operator.post(SWITCH, body)
    if answer.status_code != 200:
        raise RuntimeError(f"cannot {action}: {answer.content.decode()}")


def _client(authorization: str) -> APIClient:
    from rest_framework.test import APIClient

    client = APIClient(SERVER_NAME="localhost", HTTP_AUTHORIZATION=authorization)
    client.default_format = "json"
    return client


def _caller(account_name: str, name: str) -> APIClient:
    """An agent for the runs of an account; the benchmark's runs are those of ``bench``."""
    from automation import agents
    from automation.models import Account, Agent
    from pause_manager.actor import Actor

    account, _ = Account.objects.get_or_create(name=account_name)
    agent = Agent(name=name, account=account, pipelines=["bench-agent"], node=name)
    return _client(f"Agent {agents.issue(agent, actor=Actor('system', 'benchmark'))}")


def _operator() -> APIClient:
    from django.contrib.auth.models import User
    from rest_framework.authtoken.models import Token

    return _client(f"Token {Token.objects.create(user=User.objects.create_superuser('bench')).key}")


if __name__ == "__main__":
    for claim in main():
        print(claim.as_json())
