"""The same, where capacity is watched."""

from tests.support.settings.agent_server import *  # noqa: F403
from tests.support.settings.agent_server import PAUSE_MANAGER as BASE

PAUSE_MANAGER = {**BASE, "capacity": True}
