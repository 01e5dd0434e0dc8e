"""The end of a process in the midst of its work, without replacing any of our code: a statement that never returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

AT_THE_START = 'UPDATE "automation_automationrun" SET "lifecycle"'
"""The statement that starts a run: its creation has been committed before."""


class Died(BaseException):
    """Stands for SIGKILL: nothing but the database is left."""


@contextmanager
def dying_at(statement: str, error: type[BaseException] = Died) -> Iterator[None]:
    """Raise ``error`` in place of the first statement on this connection that begins with ``statement``."""

    def die(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.startswith(statement):
            raise error
        return execute(sql, params, many, context)

    with connection.execute_wrapper(die):
        yield
