"""The readers of the environment."""

import json
import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from backend.settings import environment


@pytest.mark.parametrize(
    ("redis_url", "broker_url"),
    [
        ("redis://example:6379/3", "redis://example:6379/3"),
        ("unix:///run/with%20space/redis.sock?db=2", "redis+socket:///run/with space/redis.sock?virtual_host=2"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
    ],
)
def test_celery_gets_its_own_spelling_of_a_redis_url(redis_url, broker_url):
    assert environment.broker_url(redis_url) == broker_url


def test_a_secret_is_generated_once_and_private(tmp_path):
    path = tmp_path / "data" / "secret_key"

    first = environment.generated_secret(path)

    assert len(first) > 40
    assert environment.generated_secret(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret_key"]


def test_a_bad_value_is_named(monkeypatch):
    monkeypatch.setenv("DATABASE_CONN_MAX_AGE", "soon")

    with pytest.raises(ImproperlyConfigured, match="DATABASE_CONN_MAX_AGE: expected a whole number, got: soon"):
        environment.number("DATABASE_CONN_MAX_AGE", 0)


@pytest.mark.req("P-05", "P-06", "P-07")
def test_threshold_and_interval_come_from_the_environment_and_a_bad_one_is_warned_of():
    """As a process that starts reads them: threshold, resume threshold, interval of the poll, of beat, of the check."""

    def read(**env):
        program = (
            "import json; from django.conf import settings as s; p = s.PAUSE_MANAGER; "
            "print(json.dumps([*p['policy']['thresholds'].values(), p['poll_interval_seconds'], "
            "s.CELERY_BEAT_SCHEDULE['pause_manager.poll']['schedule']]))"
        )
        given = {**os.environ, "DJANGO_SETTINGS_MODULE": "backend.settings.test", **env}
        done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout), done.stderr

    defaults = [0.2, 0.3, 10.0, 10.0]
    names = ("PAUSE_CAPACITY_THRESHOLD_PERCENT", "PAUSE_POLLING_INTERVAL_SECONDS")

    assert read(**dict.fromkeys(names, ""))[0] == defaults
    assert read(**dict(zip(names, ("35", "4"), strict=True)))[0] == [0.35, 0.45, 4.0, 4.0]
    found, warned = read(**dict(zip(names, ("a lot", "-3"), strict=True)))
    assert found == defaults
    assert all(name in warned for name in names)


def test_a_missing_value_is_named(monkeypatch):
    monkeypatch.delenv("SECRET_KEY", raising=False)

    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY is not set"):
        environment.required("SECRET_KEY")
