"""Real PostgreSQL and Redis for every test.

When ``DATABASE_URL`` or ``REDIS_URL`` is not set, the controlling pytest process starts an embedded server before
Django is configured, and xdist's workers inherit the URLs. The servers end with that process, however it ends.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import django
import psutil
import pytest
import pytest_django
import redis
from django.conf import settings as django_settings
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import settings as hypothesis_settings

# `make test-matrix` tests the drop-in where nothing else of ours can be imported.
SETTINGS = "tests.foreign.settings" if os.environ.get("DROP_IN_ALONE") else "backend.settings.test"
os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS

from backend.embedded import Layout, Postgres, Redis, Server
from tests.support.shell import Shell
from tests.support.table_cleaner import empty_tables

# No test may fail because the machine was busy.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

_ROOT_NAME = "slackwater-test-{pid}-"
_servers: list[Server] = []


def _remove_leftovers() -> None:
    for root in Path(tempfile.gettempdir()).glob(_ROOT_NAME.format(pid="*")):
        if not psutil.pid_exists(int(root.name.split("-")[2])):
            shutil.rmtree(root, ignore_errors=True)


def _start_servers() -> None:
    _remove_leftovers()
    layout = Layout(Path(tempfile.mkdtemp(prefix=_ROOT_NAME.format(pid=os.getpid()))))
    if not os.environ.get("DATABASE_URL"):
        _servers.append(Postgres(layout, durable=False))
        os.environ["DATABASE_URL"] = layout.database_url
    if not os.environ.get("REDIS_URL"):
        _servers.append(Redis(layout))
        os.environ["REDIS_URL"] = layout.redis_url
    os.environ["DATA_DIR"] = str(layout.data_dir)
    for server in _servers:
        server.start()


def _use_own_redis_database(worker: str) -> None:
    """Give a worker a Redis database of its own, which it empties; channels have no database, so a prefix as well."""
    number = 1 + int(re.sub(r"\D", "", worker) or 0)
    url = os.environ["REDIS_URL"]
    if url.startswith("unix:"):
        os.environ["REDIS_URL"] = re.sub(r"db=\d+", f"db={number}", url)
    else:
        os.environ["REDIS_URL"] = re.sub(r"(redis://[^/]+)(/\d*)?$", rf"\g<1>/{number}", url)
    os.environ["REDIS_PREFIX"] = f"slackwater-{worker}:"
    # What workers of one machine tell each other is for those of one test.
    own = Path(os.environ["DATA_DIR"]) / worker
    own.mkdir(exist_ok=True)
    os.environ["DATA_DIR"] = str(own)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores Ctrl-C for what it starts in the background, and so would every process that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None and not config.option.collectonly and not config.option.help:
        _start_servers()
    if "REDIS_URL" in os.environ and (worker or not config.getoption("numprocesses", None)):
        _use_own_redis_database(worker or "main")
    django.setup()
    # Nodes in a test are what it says of them, whatever real workers say of this machine.
    options = {
        **django_settings.PAUSE_MANAGER,
        "runtime_dir": str(Path(os.environ.get("DATA_DIR", ".data")) / "played"),
    }
    django_settings.PAUSE_MANAGER = options


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """A worker that inherits the settings module reads the settings before it has a Redis database of its own."""
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    while _servers:
        server = _servers.pop()
        server.stop()
        if not _servers:
            shutil.rmtree(server.layout.data_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
    """The test database can be dropped only when threads of ours that live on have let go of it."""
    TransactionTestCase._fixture_teardown = empty_tables  # type: ignore[attr-defined]
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(autouse=True)
def _empty_redis() -> Iterator[None]:
    yield
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.flushdb()


@pytest.fixture
def process_env(transactional_db: None) -> dict[str, str]:
    """The environment for a real process (a worker, beat, a command) that shares this test's database and Redis."""
    return _environment()


@pytest.fixture(scope="session")
def shared_process_env(django_db_setup: None) -> dict[str, str]:
    """The same for a process that serves several tests."""
    return _environment()


def _environment() -> dict[str, str]:
    at = connection.settings_dict
    user = f"{at['USER']}:{quote(at['PASSWORD'])}" if at["PASSWORD"] else at["USER"]
    port = f":{at['PORT']}" if at["PORT"] else ""
    url = f"postgresql://{user}@{quote(at['HOST'], safe='')}{port}/{quote(str(at['NAME']))}"
    return {**os.environ, "DATABASE_URL": url}


@pytest.fixture
def shell(process_env: dict[str, str]) -> Shell:
    return Shell(process_env)
