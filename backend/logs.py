"""How a line of the log looks, and what of Celery's own words is not worth a traceback."""

from __future__ import annotations

import logging
import time
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import signals
from celery.utils.log import get_multiprocessing_logger

_EXITED = "Process %r pid:%r exited with %r"
"""What billiard says of a process of a pool that has died."""


class Line(logging.Formatter):
    """``2026-11-28 22:14:59.254 UTC WARNING name: message``, whatever the zone of the machine."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%d %H:%M:%S"
    default_msec_format = "%s.%03d UTC"

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {message}", style="{")


def is_not_of_a_lost_process(record: logging.LogRecord) -> bool:
    """False for what Celery says of a task whose process died, with a traceback of the pool: the pool says it, too."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(getattr(error, "exc", error), WorkerLostError)


def _tell_a_lost_process(record: logging.LogRecord) -> bool:
    """A process that was killed is a fact and no fault in any code: in one line, with what becomes of its work."""
    if record.msg == _EXITED and isinstance(record.args, tuple) and len(record.args) == 3:
        _, pid, how = record.args
        record.msg, record.args = "Process %s ended with %s; its work goes on elsewhere.", (pid, how)
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


@signals.after_setup_logger.connect
def _write_as_everybody_does(**_: Any) -> None:
    """The pool's logger is set up by Celery, beside the settings."""
    logger = get_multiprocessing_logger()
    if logger is not None:
        logger.addFilter(_tell_a_lost_process)
        for handler in logger.handlers:
            handler.setFormatter(Line())
