"""Real workers that sample this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers import Workers


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    """Workers that find each other in a directory of this test."""
    running = Workers(tmp_path, {**process_env, "DATA_DIR": str(tmp_path)})
    try:
        yield running
    finally:
        running.close()
