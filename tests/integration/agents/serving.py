"""The settings of a web server that knows the pipelines of the tests, and leases that are soon heard of."""

from backend.settings.test import *  # noqa: F403
from backend.settings.test import AUTOMATION as BASE

AUTOMATION = {**BASE, "lease_seconds": 6.0}
