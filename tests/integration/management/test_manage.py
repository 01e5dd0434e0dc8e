"""``manage.py`` says in one sentence what is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_absent_database_is_one_sentence():
    done = run("showmigrations", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    assert done.returncode == 1
    assert done.stderr.startswith("Cannot use the database: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("fleet", "pause", "--mode", "drain", "--reason", "upgrade"),
        pytest.param(("hold", "place", "queue:a", "--reason", "disks"), marks=pytest.mark.slow),
        pytest.param(("erase_audit", "--before", "2020-01-01", "--reason", "old", "--yes"), marks=pytest.mark.slow),
        pytest.param(("prepare",), marks=pytest.mark.slow),
    ],
)
def test_a_read_only_database_is_one_sentence(words: tuple[str, ...], process_env: dict[str, str], tmp_path: Path):
    env = {**process_env, "DATA_DIR": str(tmp_path), "PGOPTIONS": "-c default_transaction_read_only=on"}

    done = run(*words, **env)

    said = done.stderr.strip().removeprefix("CommandError: ")
    assert done.returncode != 0
    assert said == "Cannot change anything: the database is read-only, as after a failover.", done.stderr[-600:]


PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "backend.settings.prod",
    "SECRET_KEY": "a-key-for-this-test-only-and-long-enough-for-django-to-like-it",
    "ALLOWED_HOSTS": "example.org",
    "DATABASE_URL": "postgresql://example/example",
    "REDIS_URL": "redis://example",
}


def test_production_starts_with_what_it_needs():
    assert run("check", **PRODUCTION).returncode == 0


@pytest.mark.parametrize(
    "missing",
    [
        "SECRET_KEY",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL")),
    ],
)
def test_production_names_the_setting_that_is_missing(missing: str):
    done = run("check", **{**PRODUCTION, missing: ""})

    assert done.returncode == 1
    assert done.stderr == f"Cannot start: {missing} is not set.\n"
