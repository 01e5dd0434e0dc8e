"""Tasks that keep a worker busy: load it with ``celery worker --include tests.support.busy_tasks``."""

from __future__ import annotations

import os
import time

from celery import shared_task


@shared_task(name="tests.burn")
def burn(seconds: float) -> None:
    """Use one core for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@shared_task(name="tests.note")
def note(path: str, number: int) -> None:
    """Write down that it ran."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{number}\n".encode())
    finally:
        os.close(descriptor)
