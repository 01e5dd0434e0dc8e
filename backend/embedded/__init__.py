"""PostgreSQL and Redis from installed wheels, on private Unix sockets, used when no URL is configured.

Independent of Django: the settings take the socket paths from :class:`Layout`, and the tests start servers before
Django is configured. Failures are :class:`EmbeddedError`, whose message is one sentence for a person.
"""

from backend.embedded.layout import EmbeddedError, Layout
from backend.embedded.postgres import Postgres
from backend.embedded.redis_server import Redis
from backend.embedded.server import Server, die_with_parent

__all__ = ["EmbeddedError", "Layout", "Postgres", "Redis", "Server", "die_with_parent"]
