"""The format of log lines, and filters for Celery messages that need no traceback."""

from __future__ import annotations

import logging
import time
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import signals
from celery.utils.log import get_multiprocessing_logger

_EXITED = "Process %r pid:%r exited with %r"
"""billiard's message about a pool process that has died."""


class Line(logging.Formatter):
    """``2026-11-28 22:14:59.254 UTC WARNING name: message``, whatever the zone of the machine."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%d %H:%M:%S"
    default_msec_format = "%s.%03d UTC"

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {message}", style="{")


def is_not_of_a_lost_process(record: logging.LogRecord) -> bool:
    """False for Celery's record, with a traceback, of a task whose process died: the pool logs that already."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(getattr(error, "exc", error), WorkerLostError)


def _shorten_lost_process(record: logging.LogRecord) -> bool:
    """Log a killed process in one line that says what happens to its work: it is not an error in any code."""
    if record.msg == _EXITED and isinstance(record.args, tuple) and len(record.args) == 3:
        _, pid, how = record.args
        record.msg, record.args = "Process %s ended with %s; another process resumes its work.", (pid, how)
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


@signals.after_setup_logger.connect
def _set_formatter(**_: Any) -> None:
    """Format the pool's logger like the others; Celery sets it up outside the settings."""
    logger = get_multiprocessing_logger()
    if logger is not None:
        logger.addFilter(_shorten_lost_process)
        for handler in logger.handlers:
            handler.setFormatter(Line())
