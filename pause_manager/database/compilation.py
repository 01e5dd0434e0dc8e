"""Why PostgreSQL compiles none of the statements on Django's connection.

It compiles what it expects to be expensive (its setting ``jit``, on by default up to PostgreSQL 18), and it does so
each time a statement runs. Ours ask many small questions: compiling one takes seconds, to save milliseconds.
"""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from pause_manager import conf


@receiver(connection_created, dispatch_uid="pause_manager.database.compilation")
def turn_jit_off(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """For a new connection to the default database, unless the option ``jit`` leaves it to the server."""
    if connection.alias == DEFAULT_DB_ALIAS and connection.vendor == "postgresql" and not conf.settings().jit:
        with connection.cursor() as cursor:
            cursor.execute("SET jit = off")
