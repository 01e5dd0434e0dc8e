"""What Celery does while Redis is away: nothing that anybody has to wait for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SEND = """
import django, time; django.setup()
from backend.celery import app
from kombu.exceptions import OperationalError
started = time.monotonic()
try:
    app.send_task("automation.reconcile")
except OperationalError:
    print(time.monotonic() - started)
"""


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_server():
    """Accepts connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def seconds_to_refusal(redis_url: str) -> float:
    env = {**os.environ, "REDIS_URL": redis_url}
    done = subprocess.run(
        [sys.executable, "-c", SEND], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return float(done.stdout)


@pytest.mark.slow
def test_publishing_fails_fast_when_redis_is_gone(tmp_path):
    assert seconds_to_refusal(f"redis://127.0.0.1:{unused_port()}/0") < 5
    assert seconds_to_refusal(f"unix://{tmp_path}/none.sock?db=0") < 5


@pytest.mark.slow
def test_publishing_fails_in_time_when_redis_hangs(silent_server):
    started = time.monotonic()

    assert seconds_to_refusal(f"redis://127.0.0.1:{silent_server}/0") < 8
    assert time.monotonic() - started < 15
