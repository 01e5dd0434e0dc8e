"""``/healthz`` and ``/readyz``, asked through the URLs."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone

from backend import heartbeats
from pause_manager.models import FleetWorker, Machine
from pause_manager.probes.processes import host_name
from tests.support.scrape import Scrape


@pytest.fixture
def alive() -> None:
    """Beat and a control worker."""
    for who in (heartbeats.BEAT, heartbeats.CONTROL):
        assert heartbeats.record(who)


def test_a_living_process_answers(client: Client):
    response = client.get("/healthz")

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.django_db
def test_ready_when_everything_is_there(client: Client, alive):
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "checks": dict.fromkeys(
            ("database", "migrations", "redis", "beat", "control", "clocks", "machines", "storage"), "ok"
        ),
    }


@pytest.mark.django_db
def test_a_name_that_two_machines_have_is_told_and_keeps_nobody_from_working(client: Client, alive):
    Machine.objects.create(boot_id="one", name="big", contested_at=timezone.now(), contested_by="box-b (boot 12345678)")

    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json()["checks"]["machines"] == (
        "two machines call themselves big: box-b (boot 12345678) takes no work until it has another SLACKWATER_NODE"
    )
    Machine.objects.update(contested_at=timezone.now() - timedelta(minutes=2))
    assert client.get("/readyz").json()["checks"]["machines"] == "ok"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("who", "never", "late"),
    [
        (heartbeats.BEAT, "beat has not reported", "beat last seen 9. s ago"),
        (heartbeats.CONTROL, "no control worker has reported", "control worker last seen 9. s ago"),
    ],
)
def test_not_ready_without_beat_or_control_worker(client: Client, alive, who: str, never: str, late: str):
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.pexpire(heartbeats.key(who), (heartbeats.EXPIRES_SECONDS - 90) * 1000)
        response = client.get("/readyz")
        assert response.status_code == 503
        assert re.fullmatch(late, response.json()["checks"][who])

        broker.delete(heartbeats.key(who))
        assert client.get("/readyz").json()["checks"][who] == never


@pytest.mark.django_db
def test_not_ready_without_redis(client: Client, alive, settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["checks"]["redis"] == "Redis does not respond"
    assert response.json()["checks"]["database"] == "ok"


@pytest.mark.django_db
def test_not_ready_while_a_migration_is_missing(client: Client, alive):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'pause_manager'")

    response = client.get("/readyz")

    assert response.status_code == 503
    assert "not applied" in response.json()["checks"]["migrations"]


@pytest.mark.django_db(transaction=True)
def test_not_ready_without_the_database(client: Client, alive, monkeypatch):
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["checks"]["database"] == "the database does not respond"
    assert response.json()["checks"]["migrations"] == "the database does not respond"


@pytest.mark.django_db(transaction=True)
def test_not_ready_on_a_standby_or_a_demoted_primary(client: Client, alive):
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        response = client.get("/readyz")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET default_transaction_read_only")

    assert response.status_code == 503
    assert response.json()["checks"]["database"] == "the database is read-only"


@pytest.mark.django_db
def test_whose_clock_differs_is_named_and_keeps_nobody_from_working(client: Client, alive):
    report = FleetWorker.objects.create
    report(key="one@gpu-7", node="gpu-7", clock_offset=90.0)
    report(key="two@cpu-1", node="cpu-1", clock_offset=-1.9)
    report(key="old@cpu-2", node="cpu-2")
    report(key="gone@x", node="x", clock_offset=500.0, last_seen_at=timezone.now() - timedelta(hours=1))
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        beat = {"host": "beat-host", "at": time.time() + 7}
        broker.set(heartbeats.key(heartbeats.BEAT), json.dumps(beat), ex=heartbeats.EXPIRES_SECONDS)

    response = client.get("/readyz")
    told = {
        (sample.labels["host"], sample.labels["who"]): sample.value
        for sample in Scrape.of_the_view().samples
        if sample.name == "slackwater_clock_offset_seconds"
    }

    assert response.status_code == 200
    worker, its_beat = response.json()["checks"]["clocks"].split("; ")
    assert worker == "the clock of worker one@gpu-7 on gpu-7 is 90.0 s behind the database's"
    assert re.fullmatch(r"the clock of beat on beat-host is 7\.\d s ahead of the database's", its_beat)
    assert told["gpu-7", "worker"] == 90.0
    assert told["cpu-1", "worker"] == -1.9
    assert abs(told[host_name(), "web"]) < 2
    assert -8 < told["beat-host", "beat"] < -6
    assert "x" not in {host for host, _ in told}


def test_a_beat_whose_clock_is_wrong_is_no_dead_beat(client: Client, transactional_db):
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        behind = {"host": "beat-host", "at": time.time() - 90}
        broker.set(heartbeats.key(heartbeats.BEAT), json.dumps(behind), ex=heartbeats.EXPIRES_SECONDS)

    checks = client.get("/readyz").json()["checks"]

    assert checks["beat"] == "ok"
    assert "the clock of beat on beat-host is 90." in checks["clocks"]
