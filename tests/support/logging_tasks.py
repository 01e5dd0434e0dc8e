"""Tasks that say something: one that obeys holds and one of the plain sort."""

from __future__ import annotations

import logging

from celery import Task, shared_task

from pause_manager.pausable import PausableTask

logger = logging.getLogger("tests.saying")


@shared_task(base=PausableTask, name="tests.say", ignore_result=True)
def say(what: str) -> None:
    logger.info("pausable: %s", what)


@shared_task(base=Task, name="tests.say_plainly", ignore_result=True)
def say_plainly(what: str) -> None:
    logger.info("plain: %s", what)
