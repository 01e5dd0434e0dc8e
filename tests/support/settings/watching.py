"""The settings of workers that watch their node, and that this machine's own business never saturates."""

from backend.settings.test import *  # noqa: F403
from backend.settings.test import PAUSE_MANAGER as BASE

PAUSE_MANAGER = {**BASE, "capacity": True, "policy": {"thresholds": {"pause_below": 0.0, "resume_above": 0.0}}}
