"""Orders of credits: what a provider is then told to have paid, and what must come in for it."""

from __future__ import annotations

from django.db import connection, transaction

from automation.contrib.credits import conf, ledger
from automation.contrib.credits.amounts import MOST, THOUSAND, smallest_unit, written
from automation.contrib.credits.errors import BookingRefused, KeyReused
from automation.contrib.credits.models import Payment
from automation.contrib.credits.models.tables import PAYMENT
from automation.contrib.credits.payments import providers
from automation.models import Account
from pause_manager.actor import Actor
from pause_manager.observability import audit

BATCH = 500


def place(account: Account, credits: int, *, provider: str, key: str, actor: Actor) -> Payment:
    """Order ``credits`` (thousandths, > 0) at the price in the settings. The same ``key`` again is the same payment.

    Its price is rounded up to the smallest unit of the currency. Raises ``BookingRefused``, ``KeyReused`` or
    ``ProviderNotFound``.
    """
    providers.find(provider)
    if not 0 < credits <= MOST:
        raise BookingRefused(f"Cannot order credits for {account}: expected more than 0, got: {written(credits)}.")
    settings = conf.settings()
    with transaction.atomic():
        payment, is_new = Payment.objects.get_or_create(
            account_id=account.pk,
            key=key,
            defaults={
                "provider": provider,
                "credits": credits,
                "amount": price_of(credits),
                "currency": settings.currency,
                "actor": actor.name,
            },
        )
        if (payment.provider, payment.credits) != (provider, credits):
            raise KeyReused(key)
        if is_new:
            audit.record(
                "payment_ordered",
                scope=ledger.scope_of(account.pk),
                actor=actor,
                reason=f"{written(credits)} credits by {provider}",
                details={"payment": str(payment.pk), "credits": written(credits), "account": account.pk},
            )
    return payment


def price_of(credits: int) -> int:
    """What ``credits`` (thousandths) cost, in millionths of the currency: whole smallest units."""
    settings = conf.settings()
    unit = smallest_unit(settings.currency)
    units: int = -(-credits * settings.credit_price // (THOUSAND * unit))
    return units * unit


def drop_unpaid() -> int:
    """Delete what was ordered and not paid for long; returns how many. A batch at a time, until nothing is left."""
    dropped = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_DROP, {"days": conf.settings().unpaid_days, "most": BATCH})
            rows: int = cursor.rowcount
        dropped += rows
        if rows < BATCH:
            return dropped


_DROP = f"""
    DELETE FROM {PAYMENT} WHERE state = '{Payment.State.WAITING.value}' AND id IN (
        SELECT id FROM {PAYMENT} WHERE state = '{Payment.State.WAITING.value}'
           AND created_at < statement_timestamp() - make_interval(days => %(days)s)
         LIMIT %(most)s FOR UPDATE SKIP LOCKED)
"""
