"""The readers of the environment."""

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


def test_a_missing_value_is_named(monkeypatch):
    monkeypatch.delenv("SECRET_KEY", raising=False)

    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY is not set"):
        environment.required("SECRET_KEY")
