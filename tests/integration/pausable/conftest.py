"""A foreign project, made for one test; and one whose database is behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from django.db import connection

from tests.support.proxy import PostgresProxy

if TYPE_CHECKING:
    from tests.integration.pausable.project import Foreign


@pytest.fixture
def foreign(process_env: dict[str, str], tmp_path: Path) -> Iterator[Foreign]:
    from tests.integration.pausable.project import Foreign

    project = Foreign(tmp_path, process_env)
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
    from tests.integration.pausable.project import Foreign

    project = Foreign(tmp_path, {**behind, "FOREIGN_GRACE": "1"})
    try:
        yield project
    finally:
        project.close()
