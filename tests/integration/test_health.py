"""``/healthz`` and ``/readyz``, asked through the URLs."""

from __future__ import annotations

import time

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test import Client

from backend import ticks


@pytest.fixture
def alive() -> None:
    """Beat and a control worker."""
    for who in (ticks.BEAT, ticks.CONTROL):
        assert ticks.mark(who)


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
        "checks": {"database": "ok", "migrations": "ok", "redis": "ok", "beat": "ok", "control": "ok"},
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("who", "never", "late"),
    [
        (ticks.BEAT, "no tick of beat is known", "the last tick was 90 s ago"),
        (ticks.CONTROL, "no control worker is known", "a control worker last did its work 90 s ago"),
    ],
)
def test_not_ready_without_beat_or_control_worker(client: Client, alive, who: str, never: str, late: str):
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.set(ticks.key(who), time.time() - 90)
        response = client.get("/readyz")
        assert (response.status_code, response.json()["checks"][who]) == (503, late)

        broker.delete(ticks.key(who))
        assert client.get("/readyz").json()["checks"][who] == never


@pytest.mark.django_db
def test_not_ready_without_redis(client: Client, alive, settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["checks"]["redis"] == "Redis does not answer"
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
    assert response.json()["checks"]["database"] == "the database does not answer"
    assert response.json()["checks"]["migrations"] == "the database does not answer"
