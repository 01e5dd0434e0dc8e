"""A foreign project, made for one test; and which of the tests here need nothing else of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.pausable.project import Foreign


HERE = Path(__file__).parent
NEED_MORE = (
    "test_giving_way.py",
    "test_measured.py",
    "test_settling.py",
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


@pytest.fixture
def foreign(process_env: dict[str, str], tmp_path: Path) -> Iterator[Foreign]:
    from tests.integration.pausable.project import Foreign

    project = Foreign(tmp_path, process_env)
    try:
        yield project
    finally:
        project.close()
