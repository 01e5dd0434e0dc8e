"""Notices of low balances: an event and a metric once for each crossing of an account's mark, and an e-mail."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import Any

from django.conf import settings as django_settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from automation.contrib.credits import funds, ledger
from automation.contrib.credits.amounts import written
from automation.contrib.credits.models import Billing
from pause_manager.actor import SYSTEM
from pause_manager.observability import audit, metrics

logger = logging.getLogger("automation.contrib.credits.low_balances")

BATCH = 200
NO_MAIL = "django.core.mail.backends.dummy.EmailBackend"

NOTICES = metrics.counter("slackwater_low_balance_notices_total", "Times that credits fell below an account's mark.")
MAILS = metrics.counter("slackwater_low_balance_mails_total", "E-mails about low balances, by outcome.", ("outcome",))


def tell() -> int:
    """Record an event for each account whose balance has fallen below its mark, and once more only after it rose."""
    told, last = 0, 0
    while rows := list(_watched().filter(pk__gt=last).order_by("pk")[:BATCH]):
        told += sum(_tell(row) for row in rows)
        last = rows[-1].pk
    return told


def _watched() -> Any:
    return Billing.objects.filter(Q(low_balance__gt=0) | Q(low_since__isnull=False))


def _tell(row: Billing) -> bool:
    balance = funds.of_account(row.pk).balance
    if not row.low_balance or balance >= row.low_balance:
        Billing.objects.filter(pk=row.pk, low_since__isnull=False).update(low_since=None, low_mailed_at=None)
        return False
    with transaction.atomic():
        crossed = Billing.objects.filter(pk=row.pk, low_since__isnull=True, low_balance=row.low_balance)
        if not crossed.update(low_since=Now(), low_mailed_at=None):
            return False
        audit.record(
            "credits_low",
            scope=ledger.scope_of(row.pk),
            actor=SYSTEM,
            reason=f"{written(balance)} credits are left; the mark is {written(row.low_balance)}",
            details={"balance": written(balance), "mark": written(row.low_balance), "account": row.pk},
        )
    NOTICES.add()
    return True


def send_mails() -> int:
    """Send an e-mail for each notice whose account has an address, once; returns how many.

    One that cannot be handed to the mail server is tried again by the next call. A crash between the mail and the row
    may lose one: the event is there in any case.
    """
    if django_settings.EMAIL_BACKEND == NO_MAIL:
        return 0
    sent = 0
    unsent = Billing.objects.filter(low_since__isnull=False, low_mailed_at__isnull=True).exclude(notice_email="")
    for row in list(unsent.select_related("account").order_by("low_since", "pk")[:BATCH]):
        # Claimed first, so that two that send at once send one.
        if not unsent.filter(pk=row.pk).update(low_mailed_at=Now()):
            continue
        try:
            _send(row)
        except (OSError, SMTPException) as error:
            Billing.objects.filter(pk=row.pk, low_since=row.low_since).update(low_mailed_at=None)
            MAILS.add(outcome="failed")
            logger.warning("Cannot send the notice of %s, trying again in a minute: %s", row.account, error)
            return sent
        MAILS.add(outcome="sent")
        sent += 1
    return sent


def _send(row: Billing) -> None:
    balance = written(funds.of_account(row.pk).balance)
    name = " ".join(row.account.name.split())
    text = (
        f"The account {name} has {balance} credits left, less than the {written(row.low_balance)} at which you asked "
        "to be told.\n\nWithout credits, runs stop at the next item that they cannot pay for, and continue there.\n"
    )
    send_mail(f"{name}: {balance} credits are left", text, None, [row.notice_email])
