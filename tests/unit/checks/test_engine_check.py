"""PostgreSQL only, and said so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from celery import current_app

from automation.checks import check_pool
from pause_manager.checks import check_database_engine

REPOSITORY = Path(__file__).resolve().parents[3]


def test_another_engine_is_refused_with_one_clear_sentence():
    done = checked(DJANGO_SETTINGS_MODULE="tests.support.settings.sqlite")

    assert done.returncode == 1
    assert (
        "(pause_manager.E001) Cannot use sqlite for database 'default': pause_manager needs PostgreSQL." in done.stderr
    )


def test_the_address_of_another_engine_is_refused_as_well():
    done = checked(DATABASE_URL="sqlite://:memory:")

    assert done.returncode == 1
    assert done.stderr == "Cannot use DATABASE_URL: expected a URL such as postgresql://user:password@host/name.\n"


def checked(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=REPOSITORY,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_postgresql_is_fine():
    assert check_database_engine(None) == []


def test_a_pool_in_which_nobody_can_be_ended_is_warned_of():
    assert check_pool(None) == []

    before, current_app.conf.worker_pool = current_app.conf.worker_pool, "threads"
    try:
        (warning,) = check_pool(None)
    finally:
        current_app.conf.worker_pool = before

    assert warning.id == "automation.W001"
    assert "An item that hangs cannot be ended in workers whose pool is 'threads'" in warning.msg
