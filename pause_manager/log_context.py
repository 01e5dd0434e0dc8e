"""What the lines of a log are about: request, run, stage, version. Bound round the work, added to every record."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

_bound: ContextVar[Mapping[str, Any]] = ContextVar("slackwater_log_context", default=MappingProxyType({}))

NAMES = ("run", "stage", "version", "request_id")


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Give every line of this thread or task these fields until the end of the block."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def request_id() -> str:
    """The id of the request at work, empty if there is none."""
    return str(_bound.get().get("request_id", ""))


def of_scope(scope: str) -> dict[str, str]:
    """``run`` if the scope is one."""
    return {"run": scope.removeprefix("run:")} if scope.startswith("run:") else {}


class AddContext(logging.Filter):
    """Adds what is bound to records that do not say it themselves; fields without a value are left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _bound.get().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True
