"""A foreign project, made for one test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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
