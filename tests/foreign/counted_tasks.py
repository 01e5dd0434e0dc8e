"""Tasks that count, for each key, how often they began what; see :mod:`tests.support.delivery_lives`."""

from __future__ import annotations

import time

from celery import shared_task

from tests.foreign.celery import app
from tests.foreign.tasks import store

COUNTS = "foreign-counts"
PATIENCE_SECONDS = 30


def began(what: str, key: str) -> None:
    store().hincrby(COUNTS, f"{key}/{what}", 1)


@shared_task
def once(key):
    began("once", key)


@shared_task(bind=True)
def leaves(self, key, is_rest=False):
    """Works until it is told to leave, and then its rest."""
    began("rest" if is_rest else "first", key)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_rest and time.monotonic() < deadline:
        should_stop, _ = self.check_should_stop()
        if should_stop:
            raise self.park(key, is_rest=True)
        time.sleep(0.01)


@shared_task(base=app.Task, needs={"cpu": 1.0})
def needing(key):
    began("needing", key)


@shared_task(base=app.Task, pausable=False)
def plain(key):
    began("plain", key)


@shared_task
def lasting(key, seconds):
    """Writes that it begins, and that it has ended."""
    began("lasting", key)
    time.sleep(seconds)
    began("lasted", key)
