"""The settings of workers that beat quickly."""

from backend.settings.test import *  # noqa: F403
from backend.settings.test import PAUSE_MANAGER as BASE

PAUSE_MANAGER = {**BASE, "worker_beat_seconds": 0.5, "missed_worker_beats": 20}
