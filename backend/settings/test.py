"""For the tests: real PostgreSQL and Redis; ``tests/conftest.py`` puts their URLs into the environment."""

from backend.settings.base import *
from backend.settings.base import PAUSE_MANAGER, REST_FRAMEWORK

SECRET_KEY = "only-for-tests-and-worthless-anywhere-else"
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
REST_FRAMEWORK = {**REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": {"anon": "100000/min", "user": "100000/min"}}
# Capacity is watched only where a test says so, whatever else runs on this machine. Counters are written when a test
# says so.
PAUSE_MANAGER = {**PAUSE_MANAGER, "capacity": False, "tally_seconds": 3600.0}
