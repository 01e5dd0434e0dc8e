"""The settings of workers that are quick to end what takes too long."""

from tests.support.settings.short_leases import *  # noqa: F403
from tests.support.settings.short_leases import AUTOMATION as BASE

AUTOMATION = {**BASE, "overrun_grace_seconds": 0.5, "ended_grace_seconds": 1.0, "turn_seconds": 1.0}
