"""``/healthz`` and ``/readyz``, asked through the URLs."""

from __future__ import annotations

import time

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test import Client

from backend.beat import tick_key


@pytest.fixture
def beat_ticked() -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.set(tick_key(), time.time())


def test_a_living_process_answers(client: Client):
    response = client.get("/healthz")

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.django_db
def test_ready_when_everything_is_there(client: Client, beat_ticked):
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "checks": {"database": "ok", "migrations": "ok", "redis": "ok", "beat": "ok"},
    }


@pytest.mark.django_db
def test_not_ready_without_beat(client: Client):
    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["checks"]["beat"] == "no tick of beat is known"


@pytest.mark.django_db
def test_not_ready_when_beat_stopped_ticking(client: Client):
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.set(tick_key(), time.time() - 90)

    assert client.get("/readyz").json()["checks"]["beat"] == "the last tick was 90 s ago"


@pytest.mark.django_db
def test_not_ready_without_redis(client: Client, beat_ticked, settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["checks"]["redis"] == "Redis does not answer"
    assert response.json()["checks"]["database"] == "ok"


@pytest.mark.django_db
def test_not_ready_while_a_migration_is_missing(client: Client, beat_ticked):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'pause_manager'")

    response = client.get("/readyz")

    assert response.status_code == 503
    assert "not applied" in response.json()["checks"]["migrations"]


@pytest.mark.django_db(transaction=True)
def test_not_ready_without_the_database(client: Client, beat_ticked, monkeypatch):
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["checks"]["database"] == "the database does not answer"
    assert response.json()["checks"]["migrations"] == "the database does not answer"
