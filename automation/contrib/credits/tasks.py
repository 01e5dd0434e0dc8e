"""Celery entry points of credits."""

from __future__ import annotations

from collections import deque

from celery import shared_task

from automation.contrib.credits import conf, invoices, low_balances, settling
from pause_manager.actor import SYSTEM
from pause_manager.control_task import ControlTask


@shared_task(base=ControlTask, name="credits.sweep", ignore_result=True)
def sweep() -> None:
    """Settle ended runs, park what cannot be paid for, resume by policy, tell low balances."""
    settling.sweep()


ISSUING_SECONDS = 30.0
"""What is not issued within them is left to the next turn, so that the other control tasks get theirs."""


@shared_task(base=ControlTask, name="credits.issue_invoices", ignore_result=True)
def issue_invoices() -> None:
    """Issue the invoices of the months that have ended and have none."""
    if conf.settings().issue_invoices:
        deque(invoices.issue_due(actor=SYSTEM, seconds=ISSUING_SECONDS), maxlen=0)


@shared_task(base=ControlTask, name="credits.send_notices", ignore_result=True)
def send_notices() -> None:
    """Send the e-mails about low balances."""
    low_balances.send_mails()
