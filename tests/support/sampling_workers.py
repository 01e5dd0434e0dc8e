"""Real workers that sample this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import Workers


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    """Workers that find each other in a directory of this test."""
    running = Workers(tmp_path, {**process_env, "DATA_DIR": str(tmp_path)})
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def watching(settings: Any) -> Iterator[None]:
    """Capacity is watched; samples stay good for as long as a test takes."""
    from pause_manager.pause_queue import poller

    given = settings.PAUSE_MANAGER
    settings.PAUSE_MANAGER = {**given, "capacity": True, "missed_samples": 300}
    poller._failed_at = None
    yield
    poller._failed_at = None
