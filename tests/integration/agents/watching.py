"""The same, where capacity is watched."""

from tests.integration.agents.serving import *  # noqa: F403
from tests.integration.agents.serving import PAUSE_MANAGER as BASE

PAUSE_MANAGER = {**BASE, "capacity": True}
