"""A RabbitMQ for a module; a foreign project for a test; one behind a proxy; which tests need nothing else of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from django.db import connection

from tests.support.proxy import PostgresProxy
from tests.support.rabbitmq import RabbitMQ

if TYPE_CHECKING:
    from tests.support.foreign_project import Foreign, OrdinaryDesk


HERE = Path(__file__).parent
NEED_MORE = (
    "test_giving_way.py",
    "test_gpus.py",
    "test_measured.py",
    "test_settling.py",
    "test_stuck.py",
    "test_telemetry.py",
    "test_turns_of_tasks.py",
    "test_example.py",
    "test_wheel.py",
)
"""Those that use the product's API or fleets of nodes, or make an environment of their own."""

collect_ignore = list(NEED_MORE) if os.environ.get("DROP_IN_ALONE") else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and item.path.name not in NEED_MORE:
            item.add_marker(pytest.mark.dropin)


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A server for the tests of one module."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def ordinary_desk() -> Iterator[OrdinaryDesk]:
    from tests.support.foreign_project import OrdinaryDesk

    desk = OrdinaryDesk()
    try:
        yield desk
    finally:
        desk.close()


@pytest.fixture
def foreign(process_env: dict[str, str], tmp_path: Path, ordinary_desk: OrdinaryDesk) -> Iterator[Foreign]:
    from tests.support.foreign_project import Foreign

    project = Foreign(tmp_path, process_env, ordinary_desk)
    try:
        yield project
    finally:
        project.close()


@pytest.fixture
def proxy(transactional_db: None) -> Iterator[PostgresProxy]:
    """Before this test's database."""
    with PostgresProxy.of(connection.settings_dict) as opened:
        yield opened


@pytest.fixture
def behind(proxy: PostgresProxy, process_env: dict[str, str]) -> dict[str, str]:
    """The environment of a process whose database is behind the proxy."""
    at = connection.settings_dict
    user = f"{at['USER']}:{quote(at['PASSWORD'])}" if at["PASSWORD"] else at["USER"]
    url = f"postgresql://{user}@{quote(proxy.host, safe='')}/{quote(str(at['NAME']))}"
    return {**process_env, "DATABASE_URL": url}


@pytest.fixture
def foreign_behind(behind: dict[str, str], tmp_path: Path) -> Iterator[Foreign]:
    """The foreign project with all its database connections through the proxy; this process has its own."""
    from tests.support.foreign_project import Foreign

    project = Foreign(tmp_path, {**behind, "FOREIGN_GRACE": "1"})
    try:
        yield project
    finally:
        project.close()
