"""Context of log lines: request, run, stage, version. Bound round the work, added to every record.

The version of the fleet switch is known to every process of a Celery worker: the main one, which hears of changes,
keeps it in a cell of memory that its pool was forked with. No line asks the database.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from mmap import mmap
from types import MappingProxyType
from typing import Any

from pause_manager.scopes import RUNS, is_run

_bound: ContextVar[Mapping[str, Any]] = ContextVar("slackwater_log_context", default=MappingProxyType({}))

NAMES = ("run", "stage", "version", "request_id")

_VERSION = struct.Struct("Q")
_known: mmap | None = None
"""The version that this worker read last, 0 before that; ``None`` in a process that does not belong to a worker."""


def share_version() -> None:
    """Make the cell; in a worker, before its pool is forked."""
    global _known
    _known = mmap(-1, _VERSION.size)


def know_version(version: int) -> None:
    """From now on the lines of all processes of this worker say ``version``, unless they say another themselves."""
    if _known is not None:
        _VERSION.pack_into(_known, 0, version)


def _version() -> int:
    return int(_VERSION.unpack_from(_known)[0]) if _known is not None else 0


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Give every line of this thread or task these fields until the end of the block."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def request_id() -> str:
    """The id of the request in progress, empty if there is none."""
    return str(_bound.get().get("request_id", ""))


def of_scope(scope: str) -> dict[str, str]:
    """``run`` if the scope is one."""
    return {"run": scope.removeprefix(RUNS)} if is_run(scope) else {}


class AddContext(logging.Filter):
    """Adds what is bound to records that do not say it themselves; fields without a value are left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _bound.get().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        if (version := _version()) and not hasattr(record, "version"):
            record.version = version
        return True
