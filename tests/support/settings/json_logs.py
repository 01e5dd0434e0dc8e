"""The settings of a worker that logs JSON and writes at once what it has counted."""

import os

os.environ["LOG_FORMAT"] = "json"

from backend.settings.test import *  # noqa: F403
from backend.settings.test import PAUSE_MANAGER as BASE

PAUSE_MANAGER = {**BASE, "tally_seconds": 0.3}
