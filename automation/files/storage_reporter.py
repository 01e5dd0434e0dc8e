"""In a worker's main process: looks which storage it has, now and then, for the worker's reports."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from celery import signals
from django.conf import settings
from django.core.files.storage import storages

from automation.files import place

logger = logging.getLogger("automation.files")

LOOK_SECONDS = 30.0
"""Between two looks: a directory may be mounted, or unmounted, meanwhile."""
AGAIN_SECONDS = 3.0
"""The same while the storage cannot be used."""


_report: dict[str, Any] | None = None


def report() -> Mapping[str, Any] | None:
    """What the last look has found; ``None`` before the first."""
    return _report


def look_once(storage: Any, complaint: str = "") -> str:
    """Look and remember; what is wrong with the storage, logged if it is not the ``complaint`` of the last time."""
    global _report
    try:
        _report = place.look(storage).as_dict()
    except Exception as error:
        if str(error) != complaint:
            logger.error("Where this worker keeps files is not known: %s", error)
        return str(error) or type(error).__name__
    return ""


def _watch() -> None:
    # One of its own: what is open to a server must not be there when the pool forks a child that would use it too.
    options: dict[str, Any] = dict(settings.STORAGES["default"])
    storage = storages.create_storage(options)
    complaint = ""
    while True:
        complaint = look_once(storage, complaint)
        _pause.wait(AGAIN_SECONDS if complaint else LOOK_SECONDS)


_pause = threading.Event()


@signals.worker_ready.connect
def _start(**_: Any) -> None:
    threading.Thread(target=_watch, name="slackwater-storage", daemon=True).start()
