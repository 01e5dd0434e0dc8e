"""Real workers that beat quickly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import Workers


@pytest.fixture
def workers(process_env: dict[str, str], tmp_path: Path, settings: Any) -> Iterator[Workers]:
    """Workers with the test's pipelines, that are silent for ten seconds before they are gone."""
    quick = {"worker_beat_seconds": 0.5, "missed_worker_beats": 20}
    settings.PAUSE_MANAGER = {**settings.PAUSE_MANAGER, **quick}
    env = {**process_env, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "tests.support.settings.quick_beat"}
    running = Workers(tmp_path, env)
    try:
        yield running
    finally:
        running.close()
