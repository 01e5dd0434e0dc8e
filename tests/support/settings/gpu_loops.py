"""The settings of workers with the test's pipelines that watch GPUs; this machine's business never saturates them."""

from backend.settings.test import *  # noqa: F403
from backend.settings.test import INSTALLED_APPS as BASE_APPS
from backend.settings.test import PAUSE_MANAGER as BASE

INSTALLED_APPS = [*BASE_APPS, "tests.support"]
PAUSE_MANAGER = {
    **BASE,
    "capacity": True,
    "gpu_deadline_seconds": 10.0,
    "worker_beat_seconds": 0.5,
    "policy": {"thresholds": {"pause_below": 0.0, "resume_above": 0.0, "cpu_slack_cores": 1000.0}},
}
