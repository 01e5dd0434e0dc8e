"""PostgreSQL and Redis from installed wheels, on private Unix sockets, for when no URL is configured.

Django-free on purpose: the settings ask :class:`Layout` where the sockets are, and the tests start servers before
Django is configured. Failures are :class:`EmbeddedError`, whose message is one sentence for a person.
"""

from backend.embedded.layout import EmbeddedError, Layout
from backend.embedded.postgres import Postgres
from backend.embedded.redis_server import Redis
from backend.embedded.server import Server, die_with_parent

__all__ = ["EmbeddedError", "Layout", "Postgres", "Redis", "Server", "die_with_parent"]
