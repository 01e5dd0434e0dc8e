"""A web server that knows the pipelines of the tests, and soon hears of lost agents."""

from backend.settings.test import *  # noqa: F403
from backend.settings.test import AUTOMATION as BASE

AUTOMATION = {**BASE, "lease_seconds": 6.0}
