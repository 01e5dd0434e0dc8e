"""The settings of workers with the test's pipelines, whose leases last three seconds."""

from backend.settings.test import *  # noqa: F403
from backend.settings.test import AUTOMATION as BASE
from backend.settings.test import INSTALLED_APPS as BASE_APPS

INSTALLED_APPS = [*BASE_APPS, "tests.support"]
AUTOMATION = {**BASE, "lease_seconds": 3.0}
